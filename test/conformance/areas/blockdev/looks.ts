// Nodes of all drivers, as they are shown.

import { type Case, scene } from '../../case.ts';
import { del, node, query } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { file, nul, raw } from './steps.ts';

/** Adds, looks at the result, takes away: nothing is left of a success. */
const look = (options: object): Case =>
  scene(`look ${JSON.stringify(options)}`, node({ 'node-name': 'x', ...options }), query, del('x'));

export const looks: Case[] = [
  look(file()),
  look(file({ filename: '@DIR@/odd.img' })),
  look(file({ filename: '@DIR@/empty.img' })),
  look(file({ filename: '@DIR@/link.img' })),
  look(file({ filename: '@DIR@/a,b "c" \\d.img' })),
  look(file({ filename: 'a.img' })),
  look(file({ filename: './a.img' })),
  look(file({ filename: 'file:a.img' })),
  look(file({ 'read-only': true })),
  look(file({ 'read-only': false })),
  look(file({ 'auto-read-only': true })),
  look(file({ 'read-only': true, 'auto-read-only': true })),
  look(file({ 'read-only': true, 'force-share': true })),
  look(file({ discard: 'unmap' })),
  look(file({ discard: 'ignore' })),
  look(file({ 'detect-zeroes': 'on' })),
  look(file({ 'detect-zeroes': 'off' })),
  look(file({ 'detect-zeroes': 'unmap', discard: 'unmap' })),
  look(file({ cache: {} })),
  look(file({ cache: { direct: true } })),
  look(file({ cache: { 'no-flush': true } })),
  look(file({ cache: { direct: true, 'no-flush': true } })),
  look(file({ cache: { direct: false, 'no-flush': false } })),
  look(file({ locking: 'on' })),
  look(file({ locking: 'off' })),
  look(file({ locking: 'auto' })),
  look(file({ aio: 'threads' })),
  look(file({ aio: 'native', cache: { direct: true } })),
  look(file({ 'drop-cache': false })),
  look(nul()),
  look(nul({ size: 0 })),
  look(nul({ size: 1000 })),
  look(nul({ size: 65536 })),
  look(nul({ size: 1099511627776 })),
  look(nul({ 'latency-ns': 1000 })),
  look(nul({ 'latency-ns': 0 })),
  look(nul({ 'read-zeroes': true })),
  look(nul({ 'read-zeroes': false, 'read-only': true })),
  look(nul({ driver: 'null-aio' })),
  look(nul({ driver: 'null-aio', size: 65536, 'read-zeroes': true })),
  look(raw()),
  look(raw({ offset: 0 })),
  look(raw({ offset: 512 })),
  look(raw({ offset: 100 })),
  look(raw({ size: MIB })),
  look(raw({ size: 0 })),
  look(raw({ offset: MIB, size: MIB })),
  look(raw({ offset: MIB, size: 9 * MIB })),
  look(raw({ offset: 10 * MIB })),
  look(raw({ 'read-only': true })),
  look(raw({ discard: 'unmap', cache: { direct: true } })),
  look(raw({ cache: { 'no-flush': true } })),
  look(raw({ 'detect-zeroes': 'on' })),
  look(raw({ file: { driver: 'file', filename: '@DIR@/a.img', 'read-only': true } })),
  look(
    raw({
      'read-only': true,
      file: { driver: 'file', filename: '@DIR@/a.img', 'read-only': true },
    }),
  ),
  look(
    raw({
      'auto-read-only': true,
      file: { driver: 'file', filename: '@DIR@/a.img', 'read-only': true },
    }),
  ),
  look(raw({ file: { driver: 'file', filename: '@DIR@/odd.img' } })),
  look(raw({ file: { driver: 'null-co', size: MIB } })),
  look(
    raw({
      file: { driver: 'raw', offset: MIB, file: { driver: 'file', filename: '@DIR@/a.img' } },
    }),
  ),
  look(raw({ file: { driver: 'file', filename: '@DIR@/a.img', 'node-name': 'named' } })),
];
