// NBD transmission: every command with every flag, at every boundary, in each way of replying; and what it leaves in the
// image.

import { type Area, type Case, type Group, type Request, type Step, scene } from '../case.ts';
import {
  DF,
  enter,
  FAST_ZERO,
  FUA,
  type Mode,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NO_HOLE,
  REQ_ONE,
  requests,
  transmission,
} from '../wire-steps.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 10 * MIB;
const MAX = 32 * MIB;

const read = (offset: number | bigint, length: number, flags = 0): Request => ({
  type: NBD_CMD_READ,
  offset,
  length,
  flags,
});
const write = (offset: number | bigint, payload: Uint8Array, flags = 0): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload,
  flags,
});
const bytes = (length: number, byte = 0x77): Uint8Array => Buffer.alloc(length, byte);
const command = (type: number, offset: number | bigint, length: number, flags = 0): Request => ({
  type,
  offset,
  length,
  flags,
});

const boundaries: readonly (readonly [name: string, offset: number | bigint, length: number])[] = [
  ['nothing at 0', 0, 0],
  ['nothing at the end', SIZE, 0],
  ['nothing past the end', SIZE + 1, 0],
  ['one byte', 0, 1],
  ['the last byte', SIZE - 1, 1],
  ['a sector', 0, 512],
  ['a sector and a byte', 511, 514],
  ['the last sector', SIZE - 512, 512],
  ['across the end', SIZE - 256, 512],
  ['at the end', SIZE, 512],
  ['far past the end', 2 ** 40, 512],
  ['offset 2^63 - 512', 2n ** 63n - 512n, 512],
  ['offset 2^63', 2n ** 63n, 512],
  ['offset 2^64 - 1', 2n ** 64n - 1n, 1],
  ['offset and length that wrap', 2n ** 64n - 512n, 1024],
  ['length 2^32 - 1', 0, 0xffffffff],
  ['length 2^31', 0, 0x80000000],
  ['the longest', 0, MAX],
  ['longer than the longest', 0, MAX + 1],
];

const flagSets = [
  0,
  FUA,
  NO_HOLE,
  DF,
  REQ_ONE,
  FAST_ZERO,
  0x20,
  0x8000,
  0xffff,
  FUA | DF,
  FUA | NO_HOLE,
  NO_HOLE | FAST_ZERO,
];
const ping = read(64 * KIB, 4);

/** One command at all boundaries, and with all flags: a case each, a healthy read behind it. */
function battery(name: string, type: number, mode: Mode, target: string): Case[] {
  const isWrite = type === NBD_CMD_WRITE;
  const at = (offset: number | bigint, length: number, flags: number): Request =>
    isWrite ? write(offset, bytes(length), flags) : command(type, offset, length, flags);
  // A payload above the maximum is never read: the connection ends.
  const lengths = boundaries.filter(([, , length]) => !isWrite || length <= 4096);
  return [
    ...lengths.map(([boundary, offset, length]) =>
      transmission(`${name} ${boundary}`, mode, target, at(offset, length, 0), ping),
    ),
    ...flagSets.map((flags) =>
      transmission(
        `${name} flags 0x${flags.toString(16)}`,
        mode,
        target,
        at(4096, 4096, flags),
        ping,
      ),
    ),
  ];
}

const sparse: Case[] = [
  transmission('a hole', 'structured', 'ex', read(MIB, 4096)),
  transmission('data then hole', 'structured', 'ex', read(192 * KIB, 128 * KIB)),
  transmission('hole then data', 'structured', 'ex', read(3 * MIB - 64 * KIB, 128 * KIB)),
  transmission('data hole data hole', 'structured', 'ex', read(0, 4 * MIB)),
  transmission('everything', 'structured', 'ex', read(0, SIZE)),
  transmission('everything without fragments', 'structured', 'ex', read(0, SIZE, DF)),
  transmission('everything', 'simple', 'ex', read(0, SIZE)),
  transmission('unaligned across a boundary', 'structured', 'ex', read(256 * KIB - 3, 7)),
  transmission('zeroes that are data', 'structured', 'ex', read(5 * MIB, 64 * KIB)),
  transmission(
    'the odd tail',
    'structured',
    'odd',
    read(0, 1024),
    read(512, 512),
    read(999, 2),
    read(1023, 1),
  ),
  transmission('the odd tail', 'simple', 'odd', read(0, 1024), read(1024, 1)),
  transmission('a null node', 'structured', 'null', read(0, 4096), read(MIB - 1, 1), read(MIB, 1)),
  transmission('an empty export', 'structured', 'empty', read(0, 0), read(0, 1)),
  transmission(
    'raw with offset and size',
    'structured',
    'window',
    read(0, 64 * KIB),
    read(64 * KIB - 1, 1),
    read(64 * KIB, 1),
    read(63 * KIB, 2 * KIB),
  ),
];

const st = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_BLOCK_STATUS, offset, length, flags);
const statuses: Case[] = [
  transmission('status of everything', 'extents', 'ex', st(0, SIZE), st(0, SIZE, REQ_ONE)),
  transmission(
    'status from inside',
    'extents',
    'ex',
    st(100, 1000),
    st(255 * KIB, 2 * KIB),
    st(256 * KIB - 1, 2),
    st(MIB, SIZE - MIB),
  ),
  transmission(
    'status of one hole',
    'extents',
    'ex',
    st(MIB, MIB),
    st(MIB, MIB, REQ_ONE),
    st(MIB + 1, 1),
  ),
  transmission('status of the odd file', 'extents', 'odd', st(0, 1024), st(1000, 24), st(0, 1000)),
  transmission('status of a null node', 'extents', 'null', st(0, MIB), st(4096, 4096)),
  transmission('status through a window', 'extents', 'window', st(0, 64 * KIB)),
  ...battery('status', NBD_CMD_BLOCK_STATUS, 'extents', 'ex'),
];

const depths: Case[] = [
  scene(
    'status with both contexts',
    ...enter('structured', 'depth').slice(0, -1),
    { do: 'option', on: 'c', option: 10, payload: depthQuery() },
    ...enter('simple', 'depth').slice(1),
    requests([st(0, SIZE)]),
    requests([st(0, 4096, REQ_ONE)]),
  ),
];

function depthQuery(): Uint8Array {
  const u32 = (value: number): Buffer => {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32BE(value);
    return buffer;
  };
  const query = (text: string): Buffer => Buffer.concat([u32(text.length), Buffer.from(text)]);
  return Buffer.concat([
    query('depth'),
    u32(2),
    query('base:allocation'),
    query('qemu:allocation-depth'),
  ]);
}

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
const zero = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_WRITE_ZEROES, offset, length, flags);
const trim = (offset: number, length: number, flags = 0): Request =>
  command(NBD_CMD_TRIM, offset, length, flags);

const effects: Case[] = [
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

const order: Case[] = [
  transmission(
    'pipelined reads',
    'simple',
    'ex',
    Array.from({ length: 64 }, (_, at) => read(at * 4096, 4096)),
  ),
  transmission(
    'pipelined reads',
    'structured',
    'ex',
    Array.from({ length: 64 }, (_, at) => read(at * 65536, 4096)),
  ),
  transmission('errors among good ones', 'structured', 'ex', [
    read(0, 4),
    read(SIZE, 4),
    read(4, 4),
    command(9, 0, 0),
    read(8, 4),
    read(0, MAX + 1),
    read(12, 4),
  ]),
  transmission('disconnect', 'simple', 'ex', { type: NBD_CMD_DISC }),
  transmission('disconnect with flags and length', 'structured', 'ex', {
    type: NBD_CMD_DISC,
    flags: 0xffff,
    offset: 5,
    length: 5,
  }),
  transmission(
    'unknown command',
    'simple',
    'ex',
    command(8, 0, 0),
    command(9, 0, 512),
    command(0xffff, 0, 0),
    ping,
  ),
  transmission(
    'unknown command',
    'structured',
    'ex',
    command(8, 0, 0),
    command(9, 0, 512),
    command(0xffff, 0, 0),
    ping,
  ),
  transmission('wrong magic', 'simple', 'ex', { ...read(0, 4), magic: 0x25609514 }, ping),
  transmission('wrong magic', 'structured', 'ex', { ...read(0, 4), magic: 0 }, ping),
  transmission(
    'the magic of extended headers',
    'structured',
    'ex',
    { ...read(0, 4), magic: 0x21e41c71 },
    ping,
  ),
  transmission(
    'a write above the maximum, header alone',
    'structured',
    'ex',
    command(NBD_CMD_WRITE, 0, MAX + 1),
    ping,
  ),
  transmission(
    'a write above the maximum, header alone',
    'simple',
    'ex',
    command(NBD_CMD_WRITE, 0, MAX + 1),
    ping,
  ),
  transmission(
    'a write of 70 MiB, header alone',
    'structured',
    'ex',
    command(NBD_CMD_WRITE, 0, 70 * MIB),
  ),
  transmission('a write past the end keeps step', 'simple', 'ex', write(SIZE, bytes(70_000)), ping),
  transmission(
    'a write with a bad flag keeps step',
    'simple',
    'ex',
    write(0, bytes(70_000), DF),
    ping,
  ),
  transmission(
    'a write to a read-only export keeps step',
    'simple',
    'ro',
    write(0, bytes(70_000)),
    ping,
  ),
  transmission('a status request that was not negotiated', 'simple', 'ex', st(0, 4096), ping),
  transmission(
    'a status request that was not negotiated',
    'structured',
    'ex',
    st(0, 4096),
    st(0, 0),
    ping,
  ),
  transmission('DF without structured replies', 'simple', 'ex', read(0, 4096, DF), ping),
  transmission(
    'a large write',
    'structured',
    'scratch',
    write(0, bytes(4 * MIB, 0x31)),
    read(4 * MIB - 2, 4),
  ),
  transmission('the largest read of a null node', 'simple', 'big', read(0, MAX), read(0, MAX + 1)),
  transmission(
    'the largest read of a null node',
    'structured',
    'big',
    read(0, MAX),
    read(2 ** 35, MAX, DF),
    read(2 ** 40 - 1, 1),
    read(2 ** 40, 1),
  ),
  transmission(
    'the largest cache request',
    'structured',
    'big',
    command(NBD_CMD_CACHE, 0, MAX),
    command(NBD_CMD_CACHE, 0, MAX + 1),
  ),
  transmission(
    '4 GiB of zeroes and trim of a null node',
    'structured',
    'big',
    zero(0, 0xffffffff),
    trim(2 ** 33, 0xffffffff),
    zero(0, 0xffffffff, FAST_ZERO),
  ),
  transmission(
    'status of a null node of 1 TiB',
    'extents',
    'big',
    st(0, 0xffffffff),
    st(2 ** 39, 0xfffffe00),
  ),
];

const img = (name: string, length: number, ...fill: (readonly [number, number, number])[]) => ({
  name,
  length,
  fill,
});
const daemon: Pick<Group, 'files' | 'arguments'> = {
  files: [
    img('a.img', SIZE, [0, 256 * KIB, 0x11], [3 * MIB, 256 * KIB, 0x22], [5 * MIB, 64 * KIB, 0]),
    img('b.img', MIB, [0, MIB, 0x33]),
    img('c.img', MIB, [0, 256 * KIB, 0x44]),
    img('d.img', MIB, [0, 256 * KIB, 0x44]),
    img('e.img', MIB, [0, MIB, 0x55]),
    img('f.img', MIB, [0, MIB, 0x66]),
    img('odd.img', 1000, [0, 1000, 0x77]),
    img('empty.img', 0),
    img('scratch.img', 8 * MIB),
  ],
  arguments: [
    ...['ex:a', 'odd:odd', 'empty:empty', 'scratch:scratch', 'through:f'].flatMap((pair) => {
      const [node, file] = pair.split(':');
      return ['--blockdev', `file,node-name=${node},filename=@DIR@/${file}.img`];
    }),
    '--blockdev',
    'file,node-name=unmap,filename=@DIR@/b.img,discard=unmap',
    '--blockdev',
    'file,node-name=detect,filename=@DIR@/c.img,detect-zeroes=on',
    '--blockdev',
    'file,node-name=detect-unmap,filename=@DIR@/d.img,detect-zeroes=unmap,discard=unmap',
    '--blockdev',
    'raw,node-name=window,file.driver=file,file.filename=@DIR@/e.img,offset=65536,size=65536,discard=unmap,file.discard=unmap',
    '--blockdev',
    'null-co,node-name=null,size=1048576,read-zeroes=on',
    '--blockdev',
    'null-co,node-name=big,size=1099511627776,read-zeroes=on',
    '--nbd-server',
    'addr.type=unix,addr.path=@DIR@/nbd.sock',
    ...[
      'ex',
      'odd',
      'empty',
      'scratch',
      'unmap',
      'detect',
      'detect-unmap',
      'window',
      'null',
      'big',
    ].flatMap((node) => ['--export', `nbd,id=${node},node-name=${node},writable=on`]),
    '--export',
    'nbd,id=ro,node-name=ex,name=ro',
    '--export',
    'nbd,id=through,node-name=through,writable=on,writethrough=on',
  ],
};

const commands = [
  ['read', NBD_CMD_READ],
  ['write', NBD_CMD_WRITE],
  ['trim', NBD_CMD_TRIM],
  ['cache', NBD_CMD_CACHE],
  ['zeroes', NBD_CMD_WRITE_ZEROES],
  ['flush', NBD_CMD_FLUSH],
] as const;

export const nbdCommands: Area = {
  name: 'nbd-commands',
  groups: [
    ...commands.flatMap(([name, type]): Group[] => [
      {
        name: `${name} with structured replies`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'structured', 'ex'),
      },
      {
        name: `${name} with simple replies`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'simple', 'ex'),
      },
    ]),
    ...commands.map(
      ([name, type]): Group => ({
        name: `${name} of a read-only export`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'structured', 'ro').slice(3, 12),
      }),
    ),
    { name: 'sparse reads', ...daemon, cases: sparse },
    { name: 'block status', ...daemon, stderr: false, cases: statuses },
    {
      name: 'allocation depth',
      files: daemon.files ?? [],
      arguments: [
        ...(daemon.arguments ?? []),
        '--export',
        'nbd,id=depth,node-name=ex,name=depth,allocation-depth=on',
      ],
      cases: depths,
    },
    { name: 'effects', ...daemon, stderr: false, cases: effects },
    { name: 'order and limits', ...daemon, stderr: false, cases: order },
  ],
};
