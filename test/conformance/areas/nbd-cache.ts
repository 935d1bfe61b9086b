// NBD_CMD_CACHE over images that do not have all data themselves: what it copies into them, and from where.

import {
  type Area,
  type Case,
  type CommandPair,
  type Group,
  type Request,
  scene,
} from '../case.ts';
import { KIB } from '../sizes.ts';
import {
  enter,
  leave,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_READ,
  requests,
  setMeta,
} from '../wire-steps.ts';

/** Not a whole number of clusters. */
const SIZE = 1000 * KIB + 512;
const CLUSTER = 64 * KIB;

const cache = (offset: number, length: number): Request => ({
  type: NBD_CMD_CACHE,
  offset,
  length,
});
const read = (offset: number, length: number): Request => ({ type: NBD_CMD_READ, offset, length });

const file = (filename: string): object => ({ driver: 'file', filename: `@DIR@/${filename}` });
const base = { driver: 'raw', 'node-name': 'base', file: file('base.img') };
const over = (more: object = {}): object => ({
  driver: 'qcow2',
  'node-name': 'over',
  file: file('over.qcow2'),
  backing: base,
  ...more,
});
/** Allocated in its first cluster only, and shows nothing where it is not. */
const alone = { driver: 'qcow2', 'node-name': 'over', file: file('alone.qcow2') };
const filter = (driver: string, more: object = {}): CommandPair => [
  'blockdev-add',
  { driver, 'node-name': 'filter', file: 'over', ...more },
];

/** A client that has areas cached, and then looks where they are. */
function cached(
  id: string,
  graph: readonly (CommandPair | string)[],
  areas: readonly Request[],
  { node = 'over', writable = true } = {},
): Case {
  const [greeting, structured, ...into] = enter('extents', 'e');
  if (greeting === undefined || structured === undefined) throw new Error('no handshake');
  return scene(
    id,
    ...graph,
    [
      'block-export-add',
      { type: 'nbd', id: 'e', 'node-name': node, name: 'e', writable, 'allocation-depth': true },
    ],
    greeting,
    structured,
    setMeta('c', 'e', ['base:allocation', 'qemu:allocation-depth']),
    ...into.slice(1),
    ...areas.map((area) => requests([area])),
    requests([{ type: NBD_CMD_BLOCK_STATUS, offset: 0, length: SIZE }]),
    requests([read(CLUSTER, 2 * CLUSTER), read(SIZE - 4096, 4096)]),
    leave,
    ['block-export-del', { id: 'e', mode: 'hard' }],
  );
}

const add = (options: object): CommandPair => ['blockdev-add', options];
const short = [cache(CLUSTER + 100, 10), cache(3 * CLUSTER - 1, 2)];

const bitmapHash: CommandPair = ['x-debug-block-dirty-bitmap-sha256', { node: 'over', name: 'b' }];

const cases: readonly (readonly [Case, stderr?: false])[] = [
  [cached('a byte on each side of a border', [add(over())], short)],
  [cached('data and zeroes of the backing file', [add(over())], [cache(2 * CLUSTER, 5 * CLUSTER)])],
  [cached('everything', [add(over())], [cache(0, SIZE)])],
  [cached('the end', [add(over())], [cache(SIZE - 1, 1)])],
  [cached('twice', [add(over())], [...short, ...short])],
  [cached('by a client that may not write', [add(over())], short, { writable: false })],
  [
    // What the reference says at its end about tables that it could not write is its own affair.
    cached('a read-only image', [add(over({ 'read-only': true }))], short, { writable: false }),
    false,
  ],
  [
    cached(
      'a read-only image that has it',
      [add(over({ 'read-only': true }))],
      [cache(0, CLUSTER)],
      { writable: false },
    ),
  ],
  [cached('without a backing file', [add(alone)], [cache(0, 3 * CLUSTER)])],
  [
    cached(
      'through a filter',
      [add(over()), filter('throttle', { 'throttle-group': 't' })],
      short,
      { node: 'filter' },
    ),
  ],
  [
    cached('through copy-on-read', [add(over()), filter('copy-on-read')], short, {
      node: 'filter',
    }),
  ],
  [
    cached(
      'is no change to a dirty bitmap',
      [add(over()), ['block-dirty-bitmap-add', { node: 'over', name: 'b', granularity: 65536 }]],
      short,
    ),
  ],
  [
    cached(
      'of a raw disk',
      [add({ driver: 'raw', 'node-name': 'over', file: file('base.img') })],
      [cache(0, SIZE)],
    ),
  ],
];

export const nbdCache: Area = {
  name: 'nbd-cache',
  groups: cases.map(
    ([one, stderr]): Group => ({
      name: one.id,
      files: [
        {
          name: 'base.img',
          length: SIZE,
          fill: [
            [0, 4 * CLUSTER, 0x5a],
            [SIZE - 4096, 4096, 0x33],
          ],
        },
        {
          name: 'over.qcow2',
          qcow2: { size: SIZE, data: [1], backing: { file: 'base.img', format: 'raw' } },
        },
        { name: 'alone.qcow2', qcow2: { size: SIZE, data: [1] } },
      ],
      arguments: [
        '--object',
        'throttle-group,id=t',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock',
      ],
      ...(stderr === undefined ? {} : { stderr }),
      cases: [
        { id: 'on the wire', steps: one.steps },
        scene('afterwards', bitmapHash, { do: 'inspect', file: 'base.img' }),
      ],
    }),
  ),
};
