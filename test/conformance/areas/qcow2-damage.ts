// qcow2 images that make no sense: what is said of them, once, and what becomes of them. And images that were not closed.

import {
  type Area,
  type Case,
  type CommandPair,
  type FileSetup,
  type Step,
  scene,
} from '../case.ts';
import { go, hello, leave, NBD_CMD_READ, NBD_CMD_WRITE, NBD_FLAGS, nbd } from '../wire-steps.ts';

const CLUSTER = 65536;
const TABLE = CLUSTER;
const BLOCK = 2 * CLUSTER;
const L1 = 3 * CLUSTER;
const L2 = 4 * CLUSTER;

const broken = (name: string, ...patches: readonly (readonly [number, string])[]): FileSetup => ({
  name: `${name}.qcow2`,
  qcow2: { data: [0x11, 0x22, 0x33], patches },
});
const node = (name: string, more: object = {}): CommandPair => [
  'blockdev-add',
  {
    driver: 'qcow2',
    'node-name': 'q',
    file: { driver: 'file', filename: `@DIR@/${name}.qcow2` },
    ...more,
  },
];
const share = (more: object = {}): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': 'q', name: 'e', writable: true, ...more },
];
/** One after the other: what a request finds decides the next one's answer. */
const requests = (...list: (readonly ['read' | 'write', number, number])[]): Step =>
  nbd(
    hello('c', NBD_FLAGS),
    go('c', 'e'),
    ...list.map(([kind, offset, length]): Step => {
      const request =
        kind === 'read'
          ? { type: NBD_CMD_READ, offset, length }
          : { type: NBD_CMD_WRITE, offset, payload: Buffer.alloc(length, 0x55) };
      return { do: 'requests', on: 'c', requests: [request] };
    }),
  );
const end: (Step | CommandPair)[] = [
  leave,
  ['block-export-del', { id: 'e', mode: 'hard' }],
  ['blockdev-del', { 'node-name': 'q' }],
];
const header = (name: string): Step => ({ do: 'inspect', file: `${name}.qcow2` });

/** Requests on an image, which is looked at when it is closed. */
const served = (name: string, options: object, ...list: Parameters<typeof requests>): Case[] => [
  scene(
    `${name} ${JSON.stringify(options)} ${JSON.stringify(list)}`,
    node(name, options),
    share('read-only' in options ? { writable: false } : {}),
    requests(...list),
    ...end,
    header(name),
  ),
];

const read = ['read', 0, 512] as const;
const write = ['write', 0, 512] as const;

/** Each image is damaged by the first case that writes to it. */
const found: Case[] = [
  ...served('l2-unaligned', { 'read-only': true }, read, read),
  ...served('l2-unaligned', {}, read, read, write),
  ...served('l2-unaligned-2', {}, write, read),
  ...served('cluster-unaligned', { 'read-only': true }, read, ['read', CLUSTER, 512]),
  ...served('cluster-unaligned', {}, ['read', CLUSTER, 512], read, read),
  ...served('refblock-unaligned', {}, ['write', 10 * CLUSTER, 512]),
  ...served('data-on-l1', {}, write),
  ...served('data-on-l2', {}, write),
  ...served('data-on-refblock', {}, write),
  ...served('data-on-reftable', {}, ['write', 1024, 512]),
  ...served('no-refblock', {}, ['write', 10 * CLUSTER, 512]),
  ...served('no-refblock-2', {}, ['write', 10 * CLUSTER, 3 * CLUSTER]),
  ...served('no-refblock-no-l2', {}, write),
  ...served('no-refcounts-no-l2', {}, write),
  ...served('data-on-l1-2', { 'overlap-check': 'constant' }, write),
  ...served('data-on-l2-2', { 'overlap-check': { template: 'none', 'active-l2': true } }, write),
];

const settings: Case[] = [
  { 'overlap-check': 'nope' },
  { 'overlap-check': 5 },
  { 'overlap-check': null },
  { 'overlap-check': {} },
  { 'overlap-check': { template: 'nope' } },
  { 'overlap-check': { template: 'all', 'main-header': 'on' } },
  { 'overlap-check': { bogus: true } },
  { 'overlap-check': 'none' },
  { 'overlap-check': 'constant' },
  { 'overlap-check': 'cached' },
  { 'overlap-check': 'all' },
  { 'overlap-check': { 'inactive-l2': true, 'bitmap-directory': false } },
  { 'lazy-refcounts': 'on' },
  { 'lazy-refcounts': true },
  { 'lazy-refcounts': false },
  { 'pass-discard-request': true, 'pass-discard-snapshot': false, 'pass-discard-other': true },
  { 'pass-discard-request': 1 },
  { 'pass-discard-other': 'on' },
].map((options) =>
  scene(JSON.stringify(options), node('sound', options), ['blockdev-del', { 'node-name': 'q' }]),
);

const old: Case[] = [true, false].map((lazy) =>
  scene(`version 2, lazy refcounts ${lazy}`, node('v2', { 'lazy-refcounts': lazy }), [
    'blockdev-del',
    { 'node-name': 'q' },
  ]),
);

const reopened: Case[] = [
  scene(
    'settings change, and go back to their defaults',
    node('sound', { 'lazy-refcounts': true, 'overlap-check': 'all' }),
    ['blockdev-reopen', { options: [{ driver: 'qcow2', 'node-name': 'q', file: 'f' }] }],
    ...[
      { 'lazy-refcounts': true, 'pass-discard-other': true },
      { 'overlap-check': 'none' },
      { 'overlap-check': { template: 'constant', 'active-l2': true } },
      {},
    ].map(
      (options): CommandPair => [
        'blockdev-reopen',
        {
          options: [
            {
              driver: 'qcow2',
              'node-name': 'q',
              file: { driver: 'file', filename: '@DIR@/sound.qcow2' },
              ...options,
            },
          ],
        },
      ],
    ),
    ['blockdev-del', { 'node-name': 'q' }],
  ),
];

const corrupt: Case[] = [
  scene('for writing', node('marked')),
  scene('for reading', node('marked', { 'read-only': true }), [
    'query-named-block-nodes',
    { flat: true },
  ]),
  scene('made writable', ['blockdev-del', { 'node-name': 'q' }]),
];

const dirty: Case[] = [
  scene(
    'a dirty image that is sound',
    node('dirty'),
    ['query-named-block-nodes', { flat: true }],
    ['blockdev-del', { 'node-name': 'q' }],
    header('dirty'),
  ),
  scene(
    'a dirty image that is only read',
    node('dirty-2', { 'read-only': true }),
    ['query-named-block-nodes', { flat: true }],
    ['blockdev-del', { 'node-name': 'q' }],
    header('dirty-2'),
  ),
  scene(
    'with clusters that are counted too often',
    node('leaks'),
    ['blockdev-del', { 'node-name': 'q' }],
    header('leaks'),
  ),
  scene(
    'with wrong COPIED flags',
    node('flags'),
    ['blockdev-del', { 'node-name': 'q' }],
    header('flags'),
  ),
  scene(
    'with entries that nobody can repair',
    node('beyond'),
    ['query-named-block-nodes', { flat: true }],
    ['blockdev-del', { 'node-name': 'q' }],
    header('beyond'),
  ),
];

/** An entry of a table. */
const NOTHING = '00'.repeat(8);
const DIRTY: readonly [number, string] = [79, '01'];

export const qcow2Damage: Area = {
  name: 'qcow2-damage',
  groups: [
    {
      name: 'found',
      files: [
        broken('l2-unaligned', [L1 + 6, '0200']),
        broken('l2-unaligned-2', [L1 + 6, '0200']),
        broken('cluster-unaligned', [L2 + 6, '0200']),
        broken('refblock-unaligned', [TABLE + 6, '0200']),
        broken('data-on-reftable', [L2, '8000000000010000']),
        broken('data-on-refblock', [L2, '8000000000020000']),
        broken('data-on-l1', [L2, '8000000000030000']),
        broken('no-refblock', [TABLE, NOTHING]),
        broken('no-refblock-2', [TABLE, NOTHING]),
        broken('no-refblock-no-l2', [TABLE, NOTHING], [L1, NOTHING]),
        broken('no-refcounts-no-l2', [BLOCK, NOTHING.repeat(4)], [L1, NOTHING]),
        broken('data-on-l1-2', [L2, '8000000000030000']),
        broken('data-on-l2', [L2, '8000000000040000']),
        broken('data-on-l2-2', [L2, '8000000000040000']),
      ],
      arguments: ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'],
      cases: found,
    },
    {
      name: 'settings',
      files: [{ name: 'sound.qcow2', qcow2: { data: [1] } }],
      cases: [...settings, ...reopened],
    },
    {
      name: 'version 2',
      files: [{ name: 'v2.qcow2', qcow2: { patches: [[7, '02']] } }],
      cases: old,
    },
    {
      name: 'marked as corrupt',
      files: [broken('marked', [79, '02'])],
      cases: corrupt,
    },
    {
      name: 'not closed',
      files: [
        broken('dirty', DIRTY),
        broken('dirty-2', DIRTY),
        broken('leaks', DIRTY, [BLOCK + 8, '0003'], [BLOCK + 14, '0002']),
        broken('flags', DIRTY, [L1, '00'], [L2 + 8, '00']),
        broken('beyond', DIRTY, [L2 + 32, '8000000001000000'], [L2 + 40, '3f00000000000000']),
      ],
      cases: dirty,
    },
  ],
};
