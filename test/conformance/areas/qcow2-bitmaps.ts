// Persistent dirty bitmaps of qcow2 images, images that lie about theirs, and qcow2 nodes that are reopened.

import { type Area, type CommandPair, type Group, scene } from '../case.ts';
import { KIB, MIB } from '../sizes.ts';
import { asClient, clear, gone, hash, nodes, remove, write } from './bitmap-steps.ts';
import { files, hostile } from './qcow2-bitmaps/damage.ts';
import { life, limits } from './qcow2-bitmaps/life.ts';
import { again, del, node, on, readOnly, two, writable } from './qcow2-bitmaps/steps.ts';

const reopened: readonly Group[] = [
  on('reopened', two, [
    node(),
    writable,
    ...asClient('e', write(0, 64 * KIB)),
    gone('e'),
    again(readOnly),
    clear('b'),
    remove('b'),
    again(),
    writable,
    ...asClient('e', write(512 * KIB, 64 * KIB)),
    gone('e'),
    hash('b'),
    again({ 'read-only': false }),
    remove('d'),
    again(readOnly),
    again(readOnly),
  ]),
  on(
    'reopened with other caches',
    [],
    [
      node(),
      ...[
        { 'cache-size': MIB },
        { 'l2-cache-entry-size': 512 },
        { 'l2-cache-entry-size': 300 },
        { 'l2-cache-entry-size': 131072 },
        { 'cache-size': 1, 'l2-cache-size': 2 },
        { 'cache-size': 1, 'refcount-cache-size': 2 },
        { 'cache-size': MIB, 'l2-cache-size': 65536, 'refcount-cache-size': 65536 },
        { 'cache-clean-interval': 1 },
        { 'cache-clean-interval': 0 },
        { 'cache-clean-interval': -1 },
        { 'cache-clean-interval': 5_000_000_000 },
        { 'l2-cache-size': -1 },
        { 'l2-cache-entry-size': 4096, 'l2-cache-size': 65536 },
      ].map((more) => again(more)),
      nodes,
    ],
  ),
  on(
    'reopened with other options',
    [],
    [
      node(),
      ...[
        { driver: 'raw' },
        { file: 'nope' },
        { file: { driver: 'file', filename: '@DIR@/a.qcow2' } },
        { file: { driver: 'file', filename: '@DIR@/b.qcow2' } },
        { backing: null },
        { backing: '' },
        { backing: 'nope' },
        { backing: 'f' },
        { backing: 'n' },
        { 'data-file': 'f' },
        { discard: 'unmap' },
        { 'detect-zeroes': 'unmap' },
        { 'detect-zeroes': 'on' },
        { 'force-share': true },
        { 'auto-read-only': true },
        { cache: { direct: false, 'no-flush': true } },
      ].map((more) => again(more)),
      ['blockdev-reopen', { options: [{ driver: 'qcow2', 'node-name': 'n' }] }],
      nodes,
    ],
    [{ name: 'b.qcow2', qcow2: {} }],
  ),
];

const other: CommandPair = [
  'blockdev-add',
  { driver: 'file', 'node-name': 'o', filename: '@DIR@/o.raw' },
];
const backingFiles = [
  { name: 'base.raw', length: MIB },
  { name: 'o.raw', length: 2 * MIB },
];
const backed = (name: string, steps: readonly CommandPair[]): Group => ({
  name,
  files: [
    { name: 'a.qcow2', qcow2: { backing: { file: 'base.raw', format: 'raw' } } },
    ...backingFiles,
  ],
  cases: [scene('answers', other, ...steps)],
});
const toNull = again({ backing: null });
const toOther = again({ backing: 'o' });

const backingFile: readonly Group[] = [
  backed('reopened, with the backing file of the header', [
    node(),
    again(),
    toNull,
    nodes,
    toOther,
    nodes,
    toOther,
    again(),
    toNull,
    again(),
  ]),
  backed('reopened, with another backing file', [
    node({ backing: 'o' }),
    again(),
    toOther,
    toNull,
    again(),
    nodes,
  ]),
  backed('reopened, without its backing file', [
    node({ backing: null }),
    again(),
    toNull,
    toOther,
    nodes,
  ]),
  {
    name: 'reopened, with a backing file that the header does not have',
    files: [{ name: 'a.qcow2', qcow2: {} }, ...backingFiles],
    cases: [
      scene('answers', other, node(), toOther, nodes, toNull, nodes, again(), del),
      scene('and opened with one', node({ backing: 'o' }), toNull, nodes, again(), nodes, del),
    ],
  },
];

export const qcow2Bitmaps: Area = {
  name: 'qcow2-bitmaps',
  groups: [...life, limits, ...reopened, ...backingFile, ...files, hostile],
};
