// What the cases of persistent bitmaps share.

import type { SmallBitmap } from '../../../helpers/small-qcow2.ts';
import { type CommandPair, type FileSetup, type Group, scene } from '../../case.ts';
import { exported, plainServer } from '../bitmap-steps.ts';

export const file = (name = 'a.qcow2'): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: `@DIR@/${name}`,
});
export const node = (more: object = {}): CommandPair => [
  'blockdev-add',
  { driver: 'qcow2', 'node-name': 'n', file: file(), ...more },
];
export const again = (more: object = {}): CommandPair => [
  'blockdev-reopen',
  { options: [{ driver: 'qcow2', 'node-name': 'n', file: 'f', ...more }] },
];
export const readOnly = { 'read-only': true };
export const del: CommandPair = ['blockdev-del', { 'node-name': 'n' }];
export const writable = exported('e', { writable: true, name: 'e' });

export const two: readonly SmallBitmap[] = [
  { name: 'b', bits: [0b101, 0b1] },
  { name: 'd', flags: 0, granularityBits: 12, bits: [0xff] },
];

/** A daemon of its own for each case, since every case changes the image. */
export const on = (
  name: string,
  bitmaps: readonly SmallBitmap[],
  steps: Parameters<typeof scene> extends [string, ...infer Steps] ? Steps : never,
  files: readonly FileSetup[] = [],
): Group => ({
  name,
  files: [{ name: 'a.qcow2', qcow2: { bitmaps } }, ...files],
  arguments: plainServer,
  cases: [scene('answers', ...steps)],
});
