// The filter `compress`: over what it may be, and what its clients get.

import { type Area, type Case, type CommandPair, type Step, scene } from '../case.ts';
import { del, node } from '../node-commands.ts';
import { MIB } from '../sizes.ts';
import { go, hello, leave, NBD_CMD_READ, NBD_CMD_WRITE, NBD_FLAGS, nbd } from '../wire-steps.ts';

const CLUSTER = 65536;

const over = (file: unknown, more: object = {}): CommandPair =>
  node({ driver: 'compress', 'node-name': 'c', file, ...more });
const qcow2 = (name = 'a'): object => ({
  driver: 'qcow2',
  file: { driver: 'file', filename: `@DIR@/${name}.qcow2` },
});
const query: CommandPair = ['query-named-block-nodes', {}];
const share = (more: object = {}): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': 'c', name: 'e', writable: true, ...more },
];
const requests = (
  ...list: readonly (readonly ['read' | 'write', number, number, number])[]
): Step =>
  nbd(
    hello('c', NBD_FLAGS),
    go('c', 'e'),
    ...list.map(([kind, offset, length, byte]): Step => {
      const request =
        kind === 'read'
          ? { type: NBD_CMD_READ, offset, length }
          : { type: NBD_CMD_WRITE, offset, payload: Buffer.alloc(length, byte) };
      return { do: 'requests', on: 'c', requests: [request] };
    }),
  );
const end: (Step | CommandPair)[] = [leave, ['block-export-del', { id: 'e', mode: 'hard' }]];

const opened: Case[] = [
  scene('nothing below', node({ driver: 'compress', 'node-name': 'c' })),
  scene('a name that is not there', over('nope')),
  scene('over raw', over({ driver: 'raw', file: { driver: 'null-co', size: MIB } })),
  scene('over a protocol', over({ driver: 'null-co', size: MIB })),
  scene('over a file', over({ driver: 'file', filename: '@DIR@/a.qcow2' })),
  scene('an option that it does not have', over(qcow2(), { level: 9 })),
  scene(
    'over qcow2',
    over(qcow2()),
    query,
    ['query-blockstats', { 'query-nodes': true }],
    del('c'),
  ),
  scene(
    'over a filter that passes on',
    node({ driver: 'copy-on-read', 'node-name': 'cor', file: qcow2() }),
    over('cor'),
    query,
    del('c'),
    del('cor'),
  ),
  scene(
    'over itself',
    over(qcow2()),
    node({ driver: 'compress', 'node-name': 'd', file: 'c' }),
    del('c'),
  ),
];

const used: Case[] = [
  scene(
    'whole clusters',
    over(qcow2()),
    share(),
    requests(
      ['write', 4 * CLUSTER, CLUSTER, 7],
      ['read', 4 * CLUSTER, 512, 0],
      ['write', 4 * CLUSTER, CLUSTER, 8],
      ['write', 0, CLUSTER, 8],
      ['read', 0, 512, 0],
    ),
    ...end,
    del('c'),
  ),
  scene(
    'parts of clusters',
    over(qcow2()),
    share(),
    requests(['write', 6 * CLUSTER + 100, 1000, 7], ['read', 6 * CLUSTER, 1200, 0]),
    ...end,
    del('c'),
  ),
  scene(
    'a disk that does not end with a cluster',
    over(qcow2('odd')),
    share(),
    share({ writable: false }),
    ['block-export-del', { id: 'e', mode: 'hard' }],
    del('c'),
  ),
  scene(
    'resized',
    over(qcow2()),
    ['block_resize', { 'node-name': 'c', size: 2 * MIB }],
    query,
    del('c'),
  ),
];

export const compress: Area = {
  name: 'compress',
  groups: [
    {
      name: 'compress',
      files: [
        { name: 'a.qcow2', qcow2: { data: [1, 2] } },
        { name: 'odd.qcow2', qcow2: { size: MIB + 512 } },
      ],
      arguments: ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'],
      cases: [...opened, ...used],
    },
  ],
};
