// What makes which granule dirty.

import { type Case, type CommandPair, type Request, scene } from '../../case.ts';
import { KIB, MIB } from '../../sizes.ts';
import {
  FAST_ZERO,
  FUA,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NO_HOLE,
} from '../../wire-steps.ts';
import { asClient, hash, remove, request, trim, write, zero } from '../bitmap-steps.ts';

/** What a client's requests make dirty on `node`, in granules of several sizes. */
function effect(id: string, name: string, node: string, ...batch: readonly Request[]): Case {
  const make = (bitmap: string, more: object): CommandPair => [
    'block-dirty-bitmap-add',
    { node, name: bitmap, ...more },
  ];
  return scene(
    `${id} (${name})`,
    make('g512', { granularity: 512 }),
    make('g4k', { granularity: 4096 }),
    make('g64k', {}),
    make('off', { disabled: true }),
    ...asClient(name, ...batch),
    hash('off', node),
    hash('g512', node),
    hash('g4k', node),
    hash('g64k', node),
    remove('g512', node),
    remove('g4k', node),
    remove('g64k', node),
    remove('off', node),
  );
}

export const effects: Case[] = [
  ['a byte', [write(0, 1)]],
  ['a byte inside', [write(70000, 1)]],
  ['a sector', [write(512, 512)]],
  ['across granules', [write(65535, 2)]],
  ['the last byte', [write(MIB - 1, 1)]],
  ['everything', [write(0, MIB)]],
  ['in several places', [write(0, 512), write(200 * KIB, 4096), write(500 * KIB, 70000)]],
  ['the same place twice', [write(4096, 512), write(4096, 512)]],
  ['durably', [write(8192, 512, FUA)]],
  ['nothing', [write(8192, 0)]],
  ['past the end', [write(MIB - 256, 512)]],
  ['zeroes', [zero(4096, 8192)]],
  ['zeroes without a hole', [zero(4096, 8192, NO_HOLE)]],
  ['unaligned zeroes', [zero(1000, 3000)]],
  ['fast zeroes', [zero(64 * KIB, 4096, FAST_ZERO)]],
  ['a long run of zeroes', [zero(0, MIB)]],
  ['a discard', [trim(64 * KIB, 128 * KIB)]],
  ['an unaligned discard', [trim(1, 5000)]],
  ['a discard of nothing', [trim(4096, 0)]],
  [
    'what only looks',
    [request(NBD_CMD_READ, 0, 4096), request(NBD_CMD_FLUSH, 0, 0), request(NBD_CMD_CACHE, 0, 4096)],
  ],
].flatMap(([id, batch]) =>
  (
    [
      ['null', 'm'],
      ['file', 'f'],
      ['kept', 'k'],
      ['raw', 'r'],
    ] as const
  ).map(([name, node]) => effect(id as string, name, node, ...(batch as Request[]))),
);
