// What is asked of nodes in the graph beside adding and deleting them: thresholds for writes, and statistics of chains.

import { type Area, ask, type CommandPair, type Step, scene } from '../case.ts';
import { del, node, query, stats } from '../node-commands.ts';
import {
  go,
  hello,
  NBD_CMD_DISC,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAGS,
  NO_HOLE,
} from '../wire-steps.ts';

const threshold = (name: string, offset: number): CommandPair => [
  'block-set-write-threshold',
  { 'node-name': name, 'write-threshold': offset },
];
const exported = (name: string): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': name, name: 'disk', writable: true },
];
const unexport: CommandPair = ['block-export-del', { id: 'e' }];
const raw = (more: object = {}): CommandPair =>
  node({
    driver: 'raw',
    'node-name': 'r',
    file: { driver: 'file', 'node-name': 'f', filename: '@DIR@/a.raw' },
    ...more,
  });

/** Requests of one client to the export, one after the other. */
const ask1 = (type: number, offset: number, length: number, flags = 0): Step => ({
  do: 'requests',
  on: 'c',
  requests: [
    {
      type,
      offset,
      length,
      flags,
      ...(type === NBD_CMD_WRITE ? { payload: new Uint8Array(length).fill(7) } : {}),
    },
  ],
});
const connect: readonly Step[] = [hello('c', NBD_FLAGS), go('c', 'disk')];
const passed: Step = { do: 'event', name: 'BLOCK_WRITE_THRESHOLD', on: 'main' };
const disconnect = ask1(NBD_CMD_DISC, 0, 0);

export const graphCommands: Area = {
  name: 'graph-commands',
  groups: [
    {
      name: 'thresholds',
      arguments: ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'],
      files: [{ name: 'a.raw', length: 1024 * 1024 }],
      cases: [
        ask('block-set-write-threshold'),
        ask('block-set-write-threshold', { 'node-name': 'r' }),
        ask('block-set-write-threshold', { 'node-name': 'r', 'write-threshold': '5' }),
        ask('block-set-write-threshold', { 'node-name': 'r', 'write-threshold': 5.5 }),
        ask('block-set-write-threshold', { 'node-name': 'r', 'write-threshold': 5 }),
        scene(
          'set and gone with the node',
          node({ driver: 'null-co', 'node-name': 'n' }),
          threshold('n', 5),
          threshold('n', 4096),
          query,
          threshold('n', 0),
          query,
          del('n'),
          threshold('n', 1),
        ),
        scene(
          'a negative threshold',
          node({ driver: 'null-co', 'node-name': 'n' }),
          threshold('n', -5),
          del('n'),
        ),
        scene(
          'passed by writes',
          raw(),
          exported('r'),
          ...connect,
          threshold('r', 4096),
          ask1(NBD_CMD_WRITE, 0, 4096),
          query,
          ask1(NBD_CMD_WRITE, 4000, 97),
          passed,
          query,
          ask1(NBD_CMD_WRITE, 8192, 512),
          threshold('f', 1),
          threshold('r', 65536),
          ask1(NBD_CMD_WRITE, 512, 1),
          passed,
          stats,
          ask1(NBD_CMD_WRITE_ZEROES, 65536, 512, NO_HOLE),
          passed,
          threshold('r', 1),
          threshold('f', 5),
          ask1(NBD_CMD_TRIM, 0, 65536),
          query,
          disconnect,
          unexport,
          del('r'),
        ),
        scene(
          'passed by discards',
          raw({ discard: 'unmap' }),
          exported('r'),
          ...connect,
          threshold('r', 1),
          ask1(NBD_CMD_TRIM, 0, 65536),
          passed,
          query,
          disconnect,
          unexport,
          del('r'),
        ),
      ],
    },
    {
      name: 'chains',
      files: [
        { name: 'a.qcow2', qcow2: { data: [1, 2] } },
        {
          name: 'b.qcow2',
          qcow2: { backing: { file: 'a.qcow2', format: 'qcow2' } },
        },
        { name: 'a.raw', length: 1024 * 1024 },
      ],
      cases: [
        scene(
          'statistics',
          node({
            driver: 'qcow2',
            'node-name': 'b',
            file: { driver: 'file', 'node-name': 'bf', filename: '@DIR@/b.qcow2' },
            backing: {
              driver: 'qcow2',
              'node-name': 'a',
              file: { driver: 'file', 'node-name': 'af', filename: '@DIR@/a.qcow2' },
            },
          }),
          node({ driver: 'raw', 'node-name': 'top', file: 'b' }),
          stats,
          ['query-blockstats', {}],
          ['query-blockstats', { 'query-nodes': false }],
          'query-block',
          ['query-named-block-nodes', {}],
          del('top'),
          del('b'),
        ),
      ],
    },
  ],
};
