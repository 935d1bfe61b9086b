// Commands about nodes that many areas send.

import type { CommandPair } from './case.ts';

export const node = (options: object): CommandPair => ['blockdev-add', options];
export const del = (name: string): CommandPair => ['blockdev-del', { 'node-name': name }];
export const again = (...options: unknown[]): CommandPair => ['blockdev-reopen', { options }];
/** All nodes, each without what is below it. */
export const query: CommandPair = ['query-named-block-nodes', { flat: true }];
export const stats: CommandPair = ['query-blockstats', { 'query-nodes': true }];
export const graph: CommandPair = ['x-debug-query-block-graph', {}];
/** An export `e` of a node. */
export const nbdExport = (name: string, writable = true): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': name, writable },
];
export const removeExport: CommandPair = ['block-export-del', { id: 'e', mode: 'hard' }];
