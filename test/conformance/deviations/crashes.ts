// Where the reference crashes or hangs.

import { type Deviation, deleted, failure, success } from './deviation.ts';

export const crashes: readonly Deviation[] = [
  {
    case: 'exports/nbd-server-stop during a handshake: answers',
    ours: [
      success,
      'greeting 4e42444d4147494349484156454f50540003',
      deleted('e'),
      success,
      '<closed>',
    ],
    why: 'the reference never answers again',
  },
  {
    case: 'exports/nbd-server-stop during a handshake: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference hangs and has to be killed',
  },
  {
    case: 'blockdev/null with a negative size: blockdev-add {"driver":"null-co","node-name":"x","size":-1}',
    ours: [
      failure("Parameter 'size' expects a non-negative number below 2^64"),
      failure("Failed to find node with node-name='x'"),
    ],
    why: 'the reference aborts',
  },
  {
    case: 'blockdev/null with a negative size: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference aborts',
  },
  {
    case: 'transactions/enabling a bitmap that is not there: after adding one',
    ours: [
      success,
      failure("Dirty bitmap 'nope' not found"),
      failure("Dirty bitmap 'b' not found"),
    ],
    why: 'the reference dies of a segmentation fault',
  },
  {
    case: 'transactions/enabling a bitmap that is not there: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference dies of a segmentation fault',
  },
  {
    case: 'exports/nbd server: a file that is called like an abstract socket',
    ours: [success, success, 'mode 0100644'],
    why: 'the reference takes the file for its socket and deletes it',
  },
  {
    case: 'qcow2-create/shorter, with a data file: while nobody else writes',
    ours: [success, success],
    why: 'the reference discards in the data file without leave to write to it, and aborts',
  },
  {
    case: 'qcow2-create/shorter, with a data file: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference aborts',
  },
  {
    case: 'chardev/a key that ends the reference: Ctrl-A s',
    ours: [
      '{"QMP": {"version": @VERSION 7.2.22@, "capabilities": ["oob"]}}',
      success,
      '{"return": @VERSION 7.2.22@}',
    ],
    why: 'the reference aborts; there are no snapshots of the moment to save',
  },
  {
    case: 'chardev/a key that ends the reference: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference aborts',
  },
];
