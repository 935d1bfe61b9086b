// What each command leaves on the disk.

import type { Case, Request, Step } from '../../case.ts';
import { KIB, MIB } from '../../sizes.ts';
import {
  FAST_ZERO,
  FUA,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NO_HOLE,
  transmission,
} from '../../wire-steps.ts';
import { bytes, command, read, st, trim, write, zero } from './steps.ts';

const inspect = (file = 'a.img'): Step => ({ do: 'inspect', file });
/** Requests to one export, then a look at the image. */
const effect = (
  id: string,
  target: string,
  file: string,
  ...batches: (Request | readonly Request[])[]
): Case => {
  const made = transmission(id, 'structured', target, ...batches);
  return { id: `${made.id} on ${file}`, steps: [...made.steps, inspect(file)] };
};

export const effects: Case[] = [
  effect('write', 'ex', 'a.img', write(4 * MIB, bytes(64 * KIB))),
  effect(
    'write unaligned',
    'ex',
    'a.img',
    write(4 * MIB + 100 * KIB + 3, bytes(10)),
    read(4 * MIB + 100 * KIB, 16),
  ),
  effect('write with FUA', 'ex', 'a.img', write(6 * MIB, bytes(4096), FUA)),
  effect('write across into a hole', 'ex', 'a.img', write(256 * KIB - 4096, bytes(8192))),
  effect('write zeroes as data', 'ex', 'a.img', write(7 * MIB, bytes(64 * KIB, 0))),
  effect('zeroes', 'ex', 'a.img', zero(0, 64 * KIB), st(0, MIB), read(0, 4)),
  effect(
    'zeroes without a hole',
    'ex',
    'a.img',
    zero(64 * KIB, 64 * KIB, NO_HOLE),
    read(64 * KIB, 4),
  ),
  effect('zeroes unaligned', 'ex', 'a.img', zero(128 * KIB + 10, 5000), read(128 * KIB, 16)),
  effect('zeroes in a hole', 'ex', 'a.img', zero(8 * MIB, 64 * KIB)),
  effect(
    'zeroes in a hole without a hole',
    'ex',
    'a.img',
    zero(8 * MIB + 128 * KIB, 64 * KIB, NO_HOLE),
  ),
  effect(
    'zeroes fast',
    'ex',
    'a.img',
    zero(9 * MIB, 64 * KIB, FAST_ZERO),
    zero(9 * MIB, 64 * KIB, FAST_ZERO | NO_HOLE),
  ),
  effect('trim', 'ex', 'a.img', trim(3 * MIB, 64 * KIB), read(3 * MIB, 4)),
  effect('trim unaligned', 'ex', 'a.img', trim(3 * MIB + 100, 64 * KIB), read(3 * MIB + 96, 8)),
  effect('trim with FUA', 'ex', 'a.img', trim(3 * MIB, 4096, FUA)),
  effect(
    'trim where discard is unmap',
    'unmap',
    'b.img',
    trim(64 * KIB, 64 * KIB),
    read(64 * KIB, 4),
  ),
  effect('trim unaligned where discard is unmap', 'unmap', 'b.img', trim(192 * KIB + 100, 20_000)),
  effect('zeroes where discard is unmap', 'unmap', 'b.img', zero(320 * KIB, 64 * KIB)),
  effect(
    'zeroes without a hole where discard is unmap',
    'unmap',
    'b.img',
    zero(448 * KIB, 64 * KIB, NO_HOLE),
  ),
  effect(
    'zeroes fast where discard is unmap',
    'unmap',
    'b.img',
    zero(576 * KIB, 64 * KIB, FAST_ZERO),
  ),
  effect('zeroes of everything where discard is unmap', 'unmap', 'b.img', zero(0, MIB), st(0, MIB)),
  effect('written zeroes detected', 'detect', 'c.img', write(0, bytes(64 * KIB, 0)), st(0, MIB)),
  effect(
    'written zeroes detected and unmapped',
    'detect-unmap',
    'd.img',
    write(0, bytes(64 * KIB, 0)),
    st(0, MIB),
  ),
  effect(
    'a byte among zeroes is not detected',
    'detect',
    'c.img',
    write(128 * KIB, Buffer.concat([bytes(4095, 0), bytes(1)])),
  ),
  effect(
    'write to the tail of an odd file',
    'odd',
    'odd.img',
    write(999, bytes(1)),
    write(1000, bytes(24)),
  ),
  effect(
    'write through a window',
    'window',
    'e.img',
    write(0, bytes(4096)),
    write(64 * KIB - 4096, bytes(4096)),
    write(64 * KIB, bytes(1)),
  ),
  effect('zeroes through a window', 'window', 'e.img', zero(8192, 16384), zero(60 * KIB, 8 * KIB)),
  effect('trim through a window', 'window', 'e.img', trim(32768, 16384)),
  effect(
    'flush',
    'ex',
    'a.img',
    command(NBD_CMD_FLUSH, 0, 0),
    command(NBD_CMD_FLUSH, 12345, 678),
    command(NBD_CMD_FLUSH, 0, 0, FUA),
  ),
  effect(
    'a read-only export stays as it is',
    'ro',
    'a.img',
    write(0, bytes(512)),
    trim(0, 4096),
    zero(0, 4096),
    command(NBD_CMD_FLUSH, 0, 0),
    command(NBD_CMD_CACHE, 0, 4096),
  ),
  effect(
    'write through',
    'through',
    'f.img',
    write(0, bytes(4096)),
    zero(4096, 4096),
    trim(8192, 4096),
  ),
  effect(
    'sixteen writes at once',
    'ex',
    'a.img',
    Array.from({ length: 16 }, (_, at) => write(2 * MIB + at * 4096, bytes(4096, at + 1))),
  ),
  effect(
    'a hundred requests at once',
    'ex',
    'a.img',
    Array.from({ length: 100 }, (_, at) =>
      at % 2 === 0 ? write(MIB + at * 512, bytes(512, at)) : read(at * 4096, 512),
    ),
  ),
];
