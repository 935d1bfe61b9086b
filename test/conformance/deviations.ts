// Where ours differs from the reference on purpose: the case, what ours answers, and why. The suite fails when an entry is
// not needed (ours answers as the reference does) or names a case that does not exist.

import { ObjectTypeValues } from '../../src/qapi/generated/enums.ts';
import { bitmapAsserts } from './deviations/bitmaps.ts';
import { crashes } from './deviations/crashes.ts';
import { type Deviation, failure, file, success } from './deviations/deviation.ts';
import { blkverify, filterMessages, quorum, unalignedCache } from './deviations/filters.ts';
import { tlsEnds } from './deviations/tls.ts';

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

const besideHeader: readonly Deviation[] = [
  { driver: 'null-co' },
  { driver: 'raw', file: 'n' },
  { driver: 'file', filename: 'disk.img' },
].map((backing) => ({
  case: `json-names/backing: beside a backing file's options: ${JSON.stringify(backing)}`,
  ours: [success, success],
  why:
    "the reference takes the name in the image's header for one more option of a backing file that is not told as " +
    '`file.filename`, and refuses it, each driver with other words; ours opens what was asked for',
}));

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
      ...[
        'pty',
        'memory',
        'file',
        'socket',
        'stdio',
        'ringbuf',
        'null',
        'pipe',
        'mux',
        'serial',
      ].map((type) => `out:   ${type}`),
      'exit 0',
    ],
    why: 'lists the backends that exist here',
  },
  ...['udp,id=c', 'parallel,id=c,path=/dev/null'].map((options) => {
    const [kind = ''] = options.split(',');
    return {
      case: `command-line/command line: --chardev ${options}`,
      ours: [
        `err: @PROGRAM@: --chardev ${options}: '${kind}' is not a valid char driver name`,
        'exit 1',
      ],
      why: 'left out: no monitor can be used there, see test/schema/differences.ts',
    };
  }),
  ...['--object help', '--object nope,help'].map((id) => ({
    case: `command-line/command line: ${id}`,
    ours: objectTypes,
    why: 'lists the objects that exist here',
  })),
];

const noNode = failure("Failed to find node with node-name='x'");

/** Members and values of the file driver that the schema does not list. */
const fileOptions: readonly Deviation[] = [
  {
    case: `blockdev/blockdev-add: blockdev-add ${file('"x-check-cache-dropped":"on"')}`,
    ours: [failure("Parameter 'x-check-cache-dropped' is unexpected"), noNode],
    why: 'a test aid of the reference for live migration',
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
  ...besideHeader,
  ...floods,
  ...ownTexts,
  ...scope,
  ...fileOptions,
  ...later,
];
