// Commands and options that the cases of filters share.

import { ask, type Case, type CommandPair, scene } from '../../case.ts';
import { del, graph, node } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { NBD_CMD_READ } from '../../wire-steps.ts';

export const query: CommandPair = ['query-named-block-nodes', {}];
export const object = (options: object): CommandPair => ['object-add', options];
export const delObject = (id: string): CommandPair => ['object-del', { id }];
export const get = (path: string, property: string): CommandPair => ['qom-get', { path, property }];
export const set = (path: string, property: string, value: unknown): CommandPair => [
  'qom-set',
  { path, property, value },
];

export const file = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: '@DIR@/a.img',
  ...more,
});
export const inline = (more: object = {}): object => ({
  driver: 'file',
  filename: '@DIR@/a.img',
  ...more,
});
export const nul = (more: object = {}): object => ({
  driver: 'null-co',
  'node-name': 'n',
  size: MIB,
  ...more,
});

/** Tries to add a node over `f`, shows it, and takes it away. */
export const tryNode = (driver: string, more: object): Case => {
  const options = { driver, 'node-name': 'x', ...more };
  return {
    id: ask('blockdev-add', options).id,
    steps: scene('', node(file()), node(options), query, graph, del('x'), del('f')).steps,
  };
};

export const target: CommandPair = node(nul({ 'node-name': 't', 'read-zeroes': true }));
export const tempTarget = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 't',
  filename: '@DIR@/b.img',
  ...more,
});

export const read = (offset: number) => ({ type: NBD_CMD_READ, offset, length: 512 });
