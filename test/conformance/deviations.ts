// Where ours differs from the reference on purpose: the case, what ours answers, and why. The suite fails when an entry is
// not needed (ours answers as the reference does) or names a case that does not exist.

import { ObjectTypeValues } from '../../src/qapi/generated/enums.ts';

export interface Deviation {
  /** `area/case id` */
  readonly case: string;
  readonly ours: readonly string[] | { readonly matches: RegExp };
  readonly why: string;
}

const deleted = (id: string): string =>
  `{"timestamp": {"seconds": 0, "microseconds": 0}, "event": "BLOCK_EXPORT_DELETED", "data": {"id": "${id}"}}`;
const success = '{"return": {}}';
const failure = (desc: string): string => `{"error": {"class": "GenericError", "desc": "${desc}"}}`;

const crashes: readonly Deviation[] = [
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
];

const unalignedCache: readonly Deviation[] = [
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

const blkverify: readonly Deviation[] = [
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

const quorum: readonly Deviation[] = [
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

const integers: readonly Deviation[] = [
  {
    case: 'blockdev/blockdev-add: blockdev-add {"driver":"null-co","node-name":"x","latency-ns":-1}',
    ours: [
      failure("Parameter 'latency-ns' does not accept the negative value -1"),
      failure("Failed to find node with node-name='x'"),
    ],
    why: 'the reference takes it for 2^64 - 1; we refuse what is no exact number at the door',
  },
];

const threshold: Deviation = {
  case: 'graph-commands/thresholds: a negative threshold',
  ours: [
    success,
    failure("Parameter 'write-threshold' does not accept the negative value -5"),
    success,
  ],
  why: 'the reference takes it for 2^64 - 5; we refuse what is no exact number at the door',
};

const emptiedList: Deviation = {
  case: 'objects/properties: rules that are none',
  ours: [
    success,
    failure("Parameter 'rules[0].policy' is missing"),
    '{"return": [{"policy": "allow", "match": "x"}]}',
    success,
    '{"return": [{"policy": "deny", "match": "b"}, {"policy": "allow", "match": "a"}]}',
    success,
  ],
  why: 'the reference forgets the rules of an access list when it refuses others; ours stays as it was',
};

const noJob = ['{"return": []}', failure('Job not found')];

/** Sizes of an image to make that are no exact numbers. */
const sizes: readonly Deviation[] = [
  ['a negative size', "Parameter 'options.size' does not accept the negative value -1"],
  [
    'the largest size',
    "Parameter 'options.size' does not accept the value 9223372036854775807, it must be below 2^53",
  ],
  [
    '2^53 to reserve',
    "Parameter 'options.size' does not accept the value 9007199254740992, it must be below 2^53",
  ],
  ['a negative hint', "Parameter 'options.extent-size-hint' does not accept the negative value -1"],
].map(([id = '', text = '']) => ({
  case: `jobs/numbers that do not fit: ${id}`,
  ours: [failure(text), ...noJob],
  why: 'the reference starts a job that fails; we refuse what is no exact number at the door',
}));

const reopening: readonly Deviation[] = [
  {
    case: 'reopen/nothing to reopen: blockdev-reopen {"options":[]}',
    ours: [failure("Parameter 'options' expects at least one node")],
    why: 'the reference aborts',
  },
  {
    case: 'reopen/nothing to reopen: stderr and end',
    ours: ['<exit 0>'],
    why: 'the reference aborts',
  },
  {
    case: 'reopen/reopen: a file that is not there any more, after a reopening that changes nothing',
    ours: [
      success,
      success,
      failure("Could not open '@DIR@/gone again.img': No such file or directory"),
      success,
    ],
    why:
      'the reference forgets how the file is open when it is reopened as it was, and goes on with a descriptor that can ' +
      'write for a node that is read-only; we open the file again whenever the kind of access changes',
  },
];

const sha256 = (digest: string): string => `{"return": {"sha256": "${digest}"}}`;
const busy = failure("Bitmap 'b' is currently in use by another operation and cannot be used");

/** Where an assertion about dirty bitmaps fails in the reference; ours goes on. */
const bitmapAsserts: readonly Deviation[] = [
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

const floods: readonly Deviation[] = [
  {
    case: 'parser/error flood: nested 1,024 deep',
    ours: [failure('JSON nesting depth limit exceeded')],
    why: 'the rest of a message over a limit is skipped, not answered error by error',
  },
];

/** Every option of the reference's help text. */
const allOptions =
  /^out: Usage: qmp-storage-daemon \[options\][^]*-h, --help[^]*-T, --trace[^]*-V, --version[^]*--blockdev[^]*--chardev[^]*--daemonize[^]*--export[^]*--monitor[^]*--nbd-server[^]*--object[^]*--pidfile[^]*exit 0$/;

const ownTexts: readonly Deviation[] = ['--help', '-h', '-h --bogus', '-hx'].map((id) => ({
  case: `command-line/command line: ${id}`,
  ours: { matches: allOptions },
  why: 'a help text of our own, with the same options in the same order',
}));

const objectTypes = [
  'out: List of user creatable objects:',
  ...[...ObjectTypeValues].sort().map((type) => `out:   ${type}`),
  'exit 0',
];

const scope: readonly Deviation[] = [
  {
    case: 'command-line/command line: --chardev help',
    ours: [
      'out: Available chardev backend types: ',
      ...['pty', 'memory', 'file', 'socket', 'stdio', 'ringbuf', 'null', 'pipe'].map(
        (type) => `out:   ${type}`,
      ),
      'exit 0',
    ],
    why: 'lists the backends that exist here',
  },
  ...['--object help', '--object nope,help'].map((id) => ({
    case: `command-line/command line: ${id}`,
    ours: objectTypes,
    why: 'lists the objects that exist here',
  })),
];

const file = (more: string): string =>
  `{"driver":"file","node-name":"x","filename":"@DIR@/a.img",${more}}`;
const noNode = failure("Failed to find node with node-name='x'");

/** Members and values of the file driver that the schema does not list. */
const fileOptions: readonly Deviation[] = [
  {
    case: `blockdev/blockdev-add: blockdev-add ${file('"aio":"native"')}`,
    ours: [failure("Parameter 'aio' does not accept value 'native'"), noNode],
    why: 'aio=threads is all there is',
  },
  {
    case: `blockdev/blockdev-add: blockdev-add ${file('"drop-cache":1')}`,
    ours: [failure("Parameter 'drop-cache' is unexpected"), noNode],
    why: 'drop-cache is about live migration, which is not done here',
  },
  {
    case: `blockdev/blockdev-add: blockdev-add ${file('"x-check-cache-dropped":"on"')}`,
    ours: [failure("Parameter 'x-check-cache-dropped' is unexpected"), noNode],
    why: 'a test aid of the reference for live migration',
  },
  {
    case: `blockdev/nodes: look ${file('"drop-cache":false')}`,
    ours: [failure("Parameter 'drop-cache' is unexpected"), '{"return": []}', noNode],
    why: 'drop-cache is about live migration, which is not done here',
  },
];

const later: readonly Deviation[] = [
  {
    case: 'exports/nbd-server-start: nbd-server-start {"addr":{"type":"unix","data":{"path":"@DIR@/nbd.sock"}},"handshake-max-seconds":5}',
    ours: [success, success],
    why: 'handshake-max-seconds of QEMU 10.0',
  },
  {
    case: 'nbd-options/options: extended headers',
    ours: ['greeting 4e42444d4147494349484156454f50540003', 'option 11 reply 0x1'],
    why: 'later QEMU (8.2)',
  },
  {
    case: 'nbd-options/NBD_OPT_STRUCTURED_REPLY: extended headers after structured reply',
    ours: [
      'greeting 4e42444d4147494349484156454f50540003',
      'option 8 reply 0x1',
      'option 11 reply 0x1',
    ],
    why: 'later QEMU (8.2)',
  },
];

const program = (text: string): string => `@PROGRAM@: option negotiation failed: ${text}`;
const ended = program(
  'Failed to read opts magic: Unexpected end-of-file before all data were read',
);
const noCloseNotify =
  'Node does not tell a TLS connection that just ends from one that says so first';

/** What is logged of clients that leave TLS without a word. */
const tlsEnds: readonly Deviation[] = [
  {
    case: 'tls/with certificates: stderr and end',
    ours: [
      ended,
      ended,
      ended,
      program('TLS x509 authz check for C=GB,O=Example\\, Inc,CN=nobody is denied'),
      program('The certificate has been revoked'),
      program("The certificate hasn't got a known issuer"),
      program('The certificate is not trusted'),
      program('Verify failed: No certificate was found.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
  {
    case: 'tls/without verification: stderr and end',
    ours: [ended, ended, '<exit 0>'],
    why: noCloseNotify,
  },
  {
    case: 'tls/with TLS 1.2 only: stderr and end',
    ours: [
      ended,
      program('TLS handshake failed: No supported cipher suites have been found.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
  {
    case: 'tls/with keys: stderr and end',
    ours: [
      ended,
      ended,
      program('TLS handshake failed: An illegal parameter has been received.'),
      program('TLS handshake failed: An illegal parameter has been received.'),
      program('TLS handshake failed: Decryption has failed.'),
      program('TLS handshake failed: Decryption has failed.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
];

const filterMessages: readonly Deviation[] = [
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

export const deviations: readonly Deviation[] = [
  ...filterMessages,
  ...crashes,
  ...tlsEnds,
  ...bitmapAsserts,
  ...unalignedCache,
  ...blkverify,
  ...quorum,
  ...integers,
  threshold,
  emptiedList,
  ...sizes,
  ...reopening,
  ...floods,
  ...ownTexts,
  ...scope,
  ...fileOptions,
  ...later,
];
