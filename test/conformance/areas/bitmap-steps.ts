// Builders for the steps of cases about dirty bitmaps; node `n` unless they say otherwise.

import type { CommandPair, Request, Step } from '../case.ts';
import {
  go,
  hello,
  leave,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAGS,
} from '../wire-steps.ts';

export const add = (name: unknown, more: object = {}): CommandPair => [
  'block-dirty-bitmap-add',
  { node: 'n', name, ...more },
];
export const remove = (name: string, node = 'n'): CommandPair => [
  'block-dirty-bitmap-remove',
  { node, name },
];
export const enable = (name: string): CommandPair => [
  'block-dirty-bitmap-enable',
  { node: 'n', name },
];
export const disable = (name: string): CommandPair => [
  'block-dirty-bitmap-disable',
  { node: 'n', name },
];
export const clear = (name: string, node = 'n'): CommandPair => [
  'block-dirty-bitmap-clear',
  { node, name },
];
export const merge = (target: string, bitmaps: readonly unknown[], node = 'n'): CommandPair => [
  'block-dirty-bitmap-merge',
  { node, target, bitmaps },
];
export const hash = (name: string, node = 'n'): CommandPair => [
  'x-debug-block-dirty-bitmap-sha256',
  { node, name },
];
export const nodes: CommandPair = ['query-named-block-nodes', { flat: true }];

export const nodeArguments = [
  '--blockdev',
  'null-co,node-name=n,size=10485760,read-zeroes=on',
  '--blockdev',
  'null-co,node-name=n2,size=10485760',
  '--blockdev',
  'null-co,node-name=small,size=1000000',
  '--blockdev',
  'null-co,node-name=ro,size=10485760,read-only=on',
];

export const request = (type: number, offset: number, length: number, flags = 0): Request => ({
  type,
  offset,
  length,
  flags,
});
export const write = (offset: number, length: number, flags = 0): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload: Buffer.alloc(length, 0x55),
  flags,
});
export const zero = (offset: number, length: number, flags = 0): Request =>
  request(NBD_CMD_WRITE_ZEROES, offset, length, flags);
export const trim = (offset: number, length: number, flags = 0): Request =>
  request(NBD_CMD_TRIM, offset, length, flags);
export const send = (...requests: readonly Request[]): Step => ({
  do: 'requests',
  on: 'c',
  requests,
});

/** Writes as a client of `name`, which then goes. */
export function asClient(name: string, ...batch: readonly Request[]): Step[] {
  return [hello('c', NBD_FLAGS), go('c', name), ...batch.map((one) => send(one)), leave];
}

export const wireArguments = [
  ...nodeArguments,
  '--nbd-server',
  'addr.type=unix,addr.path=@DIR@/nbd.sock',
  '--export',
  'nbd,id=w,node-name=n,name=w,writable=on',
];

export const exported = (id: string, more: object): CommandPair => [
  'block-export-add',
  { type: 'nbd', id, 'node-name': 'n', ...more },
];
export const gone = (id: string): CommandPair => ['block-export-del', { id, mode: 'hard' }];

export const resize = (node: string, size: number): CommandPair => [
  'block_resize',
  { 'node-name': node, size },
];

export const plainServer = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];
