// Where filters differ.

import { type Deviation } from './deviation.ts';

export const unalignedCache: readonly Deviation[] = [
  {
    case: 'direct-io/unaligned cache request: is served (simple)',
    ours: [
      'greeting 4e42444d4147494349484156454f50540003',
      'option 7 reply 0x3 0003000000010000100002000000',
      'option 7 reply 0x3 000000000000001000000d6d',
      'option 7 reply 0x1',
      'simple error 0',
      'simple error 0 11111111',
    ],
    why: 'the reference dies of a segmentation fault, at a request that any client may send',
  },
  {
    case: 'direct-io/unaligned cache request: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference dies of a segmentation fault',
  },
];

export const blkverify: readonly Deviation[] = [
  {
    case: 'filters/blkverify, nodes that differ: are read (simple)',
    ours: [
      'greeting 4e42444d4147494349484156454f50540003',
      'option 7 reply 0x3 0003000000010000100002000000',
      'option 7 reply 0x3 00000000000000100000050f',
      'option 7 reply 0x1',
      'simple error 0 512 bytes of 0x0',
      'simple error 5',
    ],
    why: 'the reference ends its process where nodes differ; ours has other users, fails the request and logs why',
  },
  {
    case: 'filters/blkverify, nodes that differ: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference ends its process where nodes differ',
  },
];

export const quorum: readonly Deviation[] = [
  {
    case: 'filters/quorum, children that differ and must not: are read (simple)',
    ours: [
      'greeting 4e42444d4147494349484156454f50540003',
      'option 7 reply 0x3 0003000000010000100002000000',
      'option 7 reply 0x3 00000000000000100000050f',
      'option 7 reply 0x1',
      'simple error 0 512 bytes of 0x0',
      'simple error 5',
    ],
    why: 'with blkverify the reference ends its process where children differ; ours fails the request and logs why',
  },
  {
    case: 'filters/quorum, children that differ and must not: stderr and end',
    ours: ['<exit 0>'],
    why: 'with blkverify the reference ends its process where children differ',
  },
];

export const filterMessages: readonly Deviation[] = [
  {
    case: 'filters/copy-before-write: stderr and end',
    ours: [
      "@PROGRAM@: warning: The target block device doesn't provide information about the block size and " +
        "it doesn't have a backing file. The default block size of 65536 bytes is used. If the actual " +
        'block size of the target exceeds this default, the backup may be unusable',
      '<exit 0>',
    ],
    why: 'messages begin with the name of the program, whoever caused them; there not while a command runs',
  },
];
