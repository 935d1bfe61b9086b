// Where dirty bitmaps differ.

import { type Deviation, deleted, failure, success } from './deviation.ts';

const sha256 = (digest: string): string => `{"return": {"sha256": "${digest}"}}`;
const busy = failure("Bitmap 'b' is currently in use by another operation and cannot be used");

/** Where an assertion about dirty bitmaps fails in the reference; ours goes on. */
export const bitmapAsserts: readonly Deviation[] = [
  {
    case: 'dirty-bitmaps/merging nothing: an empty list',
    ours: [
      success,
      success,
      sha256('9d908ecfb6b256def8b49a7c504e6c889c4b0e41fe6ce3e01863dd7b61a20aa0'),
    ],
    why: 'the reference crashes',
  },
  {
    case: 'dirty-bitmaps/more bits than there can be: small granules of a large node',
    ours: [
      success,
      failure(
        "Bitmap 'b' would have more than 2199023255552 bits: the granularity 512 is too small",
      ),
      success,
    ],
    why: 'the reference aborts',
  },
  {
    case: 'dirty-bitmaps/writing where the file below has grown: beyond the bitmap',
    ours: [
      success,
      success,
      success,
      'greeting 4e42444d4147494349484156454f50540003',
      'option 7 reply 0x3 0003000000010000100002000000',
      'option 7 reply 0x3 000000000000002000000d6d',
      'option 7 reply 0x1',
      'simple error 0',
      '<closed>',
      sha256('41b8f24b79ae38bb5f3af44cf187d022c20517a6f576791e466d536517b68fb9'),
    ],
    why: 'the reference aborts',
  },
  {
    case: 'bitmap-exports/deleting a node whose bitmap is exported: by the export of another node',
    ours: [success, success, busy, deleted('e'), success, success],
    why: 'the reference aborts',
  },
  {
    case: 'bitmap-exports/resizing a node whose bitmap is exported: by the export of another node',
    ours: [
      success,
      success,
      success,
      sha256('af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc'),
    ],
    why: 'the reference aborts',
  },
  ...[
    'dirty-bitmaps/merging nothing',
    'dirty-bitmaps/more bits than there can be',
    'dirty-bitmaps/writing where the file below has grown',
    'bitmap-exports/deleting a node whose bitmap is exported',
    'bitmap-exports/resizing a node whose bitmap is exported',
  ].map((group) => ({
    case: `${group}: stderr and end`,
    ours: ['<exit 0>'],
    why: 'the reference crashes or aborts',
  })),
];
