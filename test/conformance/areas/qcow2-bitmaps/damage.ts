// Images whose bitmaps make no sense.

import {
  BITMAP_DIRECTORY_AT,
  BITMAPS_EXTENSION_AT,
  bitmapTableAt,
} from '../../../helpers/small-qcow2.ts';
import { type Case, type Group, scene } from '../../case.ts';
import { hash, nodes, remove } from '../bitmap-steps.ts';
import { again, del, file, node, on, readOnly, two } from './steps.ts';

const fileNode = (name: string, more: object = {}): object => ({
  driver: 'file',
  'node-name': name,
  filename: '@DIR@/a.qcow2',
  ...more,
});
export const files: readonly Group[] = [
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

export const hostile: Group = {
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
