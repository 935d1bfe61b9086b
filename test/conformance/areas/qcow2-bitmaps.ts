// Persistent dirty bitmaps of qcow2 images, images that lie about theirs, and qcow2 nodes that are reopened.

import {
  BITMAP_DIRECTORY_AT,
  BITMAPS_EXTENSION_AT,
  bitmapTableAt,
  type SmallBitmap,
} from '../../helpers/small-qcow2.ts';
import type { Area, Case, CommandPair, FileSetup, Group } from '../case.ts';
import { scene } from '../case.ts';
import {
  add,
  asClient,
  clear,
  disable,
  enable,
  exported,
  gone,
  hash,
  merge,
  nodes,
  plainServer,
  remove,
  resize,
  write,
} from './bitmap-steps.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const file = (name = 'a.qcow2'): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: `@DIR@/${name}`,
});
const node = (more: object = {}): CommandPair => [
  'blockdev-add',
  { driver: 'qcow2', 'node-name': 'n', file: file(), ...more },
];
const again = (more: object = {}): CommandPair => [
  'blockdev-reopen',
  { options: [{ driver: 'qcow2', 'node-name': 'n', file: 'f', ...more }] },
];
const readOnly = { 'read-only': true };
const del: CommandPair = ['blockdev-del', { 'node-name': 'n' }];
const writable = exported('e', { writable: true, name: 'e' });

const two: readonly SmallBitmap[] = [
  { name: 'b', bits: [0b101, 0b1] },
  { name: 'd', flags: 0, granularityBits: 12, bits: [0xff] },
];
const withBad: readonly SmallBitmap[] = [...two, { name: 'bad', flags: 3, bits: [0xff] }];

/** A daemon of its own for each case, since every case changes the image. */
const on = (
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

const everyCommand = [
  clear('bad'),
  enable('bad'),
  disable('bad'),
  merge('bad', ['b']),
  merge('b', ['bad']),
  hash('bad'),
  exported('x', { bitmaps: ['bad'] }),
  exported('y', { bitmaps: ['b'] }),
  exported('z', { bitmaps: ['d'] }),
  gone('z'),
  resize('n', 2 * MIB),
  add('bad'),
  add('bad', { persistent: true }),
];

const life: readonly Group[] = [
  on('loaded', two, [node(), nodes, hash('b'), hash('d'), del, node(readOnly), nodes, hash('b')]),
  on('read only', two, [
    node(readOnly),
    clear('b'),
    remove('b'),
    enable('d'),
    disable('b'),
    merge('b', ['d']),
    add('mem'),
    merge('mem', ['b']),
    hash('mem'),
    nodes,
  ]),
  on('added', two, [
    node(),
    add('b', { persistent: true }),
    add('b'),
    add('x', { persistent: true, disabled: true, granularity: 512 }),
    add('y', { persistent: true }),
    add('z'),
    nodes,
    del,
    node(),
    nodes,
  ]),
  on('added to a node that cannot be written', two, [
    node(readOnly),
    add('x', { persistent: true }),
    nodes,
    again(),
    again(readOnly),
    nodes,
  ]),
  on('written', two, [
    node(),
    writable,
    ...asClient('e', write(0, 64 * KIB), write(512 * KIB, 512)),
    gone('e'),
    hash('b'),
    hash('d'),
    del,
    node(readOnly),
    hash('b'),
    hash('d'),
  ]),
  on('changed', two, [
    node(),
    clear('b'),
    enable('d'),
    merge('b', ['d']),
    disable('b'),
    remove('d'),
    remove('d'),
    nodes,
    del,
    node(readOnly),
    hash('b'),
  ]),
  on('removed and made again', two, [
    node(),
    remove('b'),
    add('b', { persistent: true }),
    nodes,
    del,
    node(),
    remove('d'),
    remove('b'),
    nodes,
    del,
    node(),
    nodes,
  ]),
  on('inconsistent', withBad, [node(), nodes, ...everyCommand, remove('bad'), nodes]),
  on('inconsistent and read only', withBad, [
    node(readOnly),
    nodes,
    ...everyCommand,
    remove('bad'),
  ]),
  on('inconsistent and reopened', withBad, [
    node(readOnly),
    again(),
    nodes,
    again(readOnly),
    nodes,
  ]),
  on('a disk that changes its length', two, [
    node(),
    resize('n', 2 * MIB),
    hash('b'),
    resize('n', 512 * KIB),
    hash('b'),
    hash('d'),
    del,
    node(readOnly),
    hash('b'),
    hash('d'),
  ]),
  on('a disk of no length', two, [node(), resize('n', 0), hash('b')]),
  on('a disk that cannot change its length', two, [
    node(),
    exported('x', { writable: true, bitmaps: ['b'] }),
    remove('b'),
    resize('n', 2 * MIB),
    gone('x'),
    del,
  ]),
  on(
    'names',
    [{ name: '' }, { name: 'Tag é 😀' }],
    [node(), nodes, remove(''), del, node(), nodes],
  ),
  on('many', two, [
    node(),
    ...Array.from({ length: 20 }, (_, index) => add(`bitmap ${index}`, { persistent: true })),
    del,
    node(readOnly),
    nodes,
  ]),
];

const large = (size: number): FileSetup => ({ name: 'a.qcow2', length: 8 * MIB, qcow2: { size } });

const limits: Group = {
  name: 'limits',
  files: [large(512 * MIB)],
  cases: [
    scene(
      'answer',
      node(),
      ['blockdev-add', { ...file(), 'node-name': 'g', locking: 'off' }],
      ['block-dirty-bitmap-add', { node: 'g', name: 'x', persistent: true }],
      add('x'.repeat(1024), { persistent: true }),
      add('é'.repeat(512), { persistent: true }),
      add('x', { persistent: true, granularity: 2 ** 31 }),
      add('', { persistent: true }),
      add('y', { persistent: true, granularity: 1000 }),
    ),
  ],
};

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

const fileNode = (name: string, more: object = {}): object => ({
  driver: 'file',
  'node-name': name,
  filename: '@DIR@/a.qcow2',
  ...more,
});
const files: readonly Group[] = [
  on('reopened over a file that stays read only', two, [
    ['blockdev-add', fileNode('f', readOnly)],
    node({ file: 'f', ...readOnly }),
    again(),
    again(readOnly),
    nodes,
  ]),
  on('reopened together with its file', two, [
    ['blockdev-add', fileNode('f', readOnly)],
    node({ file: 'f', ...readOnly }),
    [
      'blockdev-reopen',
      { options: [{ driver: 'qcow2', 'node-name': 'n', file: 'f' }, fileNode('f')] },
    ],
    nodes,
    [
      'blockdev-reopen',
      {
        options: [
          fileNode('f', readOnly),
          { driver: 'qcow2', 'node-name': 'n', file: 'f', ...readOnly },
        ],
      },
    ],
    nodes,
  ]),
];

/** Bytes to be changed: from where on, how many, to what. */
type Damage = readonly (readonly [offset: number, length: number, byte: number])[];

const entry = BITMAP_DIRECTORY_AT;
const table = bitmapTableAt(0);
const damages: readonly (readonly [what: string, damage: Damage])[] = [
  ['an extension that is too short', [[BITMAPS_EXTENSION_AT + 7, 1, 16]]],
  ['no bitmaps', [[BITMAPS_EXTENSION_AT + 11, 1, 0]]],
  ['fewer bitmaps than there are', [[BITMAPS_EXTENSION_AT + 11, 1, 1]]],
  ['more bitmaps than there are', [[BITMAPS_EXTENSION_AT + 11, 1, 3]]],
  ['more bitmaps than there may be', [[BITMAPS_EXTENSION_AT + 9, 1, 1]]],
  ['a reserved field', [[BITMAPS_EXTENSION_AT + 15, 1, 1]]],
  ['a directory of no length', [[BITMAPS_EXTENSION_AT + 23, 1, 0]]],
  ['a directory that is cut', [[BITMAPS_EXTENSION_AT + 23, 1, 40]]],
  ['a directory that is too long', [[BITMAPS_EXTENSION_AT + 20, 1, 8]]],
  ['a directory of exabytes', [[BITMAPS_EXTENSION_AT + 16, 1, 0x7f]]],
  ['a directory between clusters', [[BITMAPS_EXTENSION_AT + 31, 1, 8]]],
  ['a directory far behind the end', [[BITMAPS_EXTENSION_AT + 24, 1, 0x10]]],
  ['a directory at minus something', [[BITMAPS_EXTENSION_AT + 24, 1, 0xf0]]],
  ['a directory that is the header', [[BITMAPS_EXTENSION_AT + 29, 1, 0]]],
  ['a table at 0', [[entry, 8, 0]]],
  ['a table between clusters', [[entry + 7, 1, 8]]],
  ['a table far behind the end', [[entry, 1, 0x10]]],
  ['a table at minus something', [[entry, 1, 0xf0]]],
  ['a table of no entries', [[entry + 11, 1, 0]]],
  ['a table of too many entries', [[entry + 11, 1, 2]]],
  ['a table of terabytes', [[entry + 8, 4, 0xff]]],
  ['flags that nobody knows', [[entry + 15, 1, 4]]],
  ['another type', [[entry + 16, 1, 2]]],
  ['small granules', [[entry + 17, 1, 8]]],
  ['large granules', [[entry + 17, 1, 32]]],
  ['a long name', [[entry + 18, 1, 4]]],
  ['extra data', [[entry + 23, 1, 8]]],
  ['extra data of 4 GiB', [[entry + 20, 4, 0xff]]],
  ['two of one name', [[entry + 32 + 24, 1, 'b'.charCodeAt(0)]]],
  ['reserved bits in a table', [[table, 1, 1]]],
  ['an offset and ones in a table', [[table + 7, 1, 1]]],
  ['bits between clusters', [[table + 6, 1, 2]]],
  ['bits far behind the end', [[table + 1, 1, 0x10]]],
  [
    'only ones',
    [
      [table, 7, 0],
      [table + 7, 1, 1],
    ],
  ],
  ['bits in the header', [[table, 8, 0]]],
  ['bits for more granules than there are', [[table + 65536, 65536, 0xff]]],
];

const hostile: Group = {
  name: 'images that lie',
  // The reference tells there of clusters that it gives up and should not.
  stderr: false,
  files: damages.map(([, fill], index) => ({
    name: `${index}.qcow2`,
    qcow2: { bitmaps: two },
    fill,
  })),
  cases: damages.map(
    ([what], index): Case =>
      scene(
        what,
        node({ file: file(`${index}.qcow2`), ...readOnly }),
        nodes,
        hash('d'),
        del,
        node({ file: file(`${index}.qcow2`) }),
        hash('d'),
        remove('d'),
        del,
      ),
  ),
};

export const qcow2Bitmaps: Area = {
  name: 'qcow2-bitmaps',
  groups: [...life, limits, ...reopened, ...backingFile, ...files, hostile],
};
