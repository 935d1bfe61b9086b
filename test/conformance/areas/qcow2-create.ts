// blockdev-create of qcow2 images: what is refused and when, and the bytes of what is made.

import { type Area, type Case, type CommandPair, type Step, scene } from '../case.ts';
import { del } from '../node-commands.ts';
import { KIB, MIB } from '../sizes.ts';

const create = (options: object, id = 'j'): CommandPair => [
  'blockdev-create',
  { 'job-id': id, options: { driver: 'qcow2', file: 'f', size: MIB, ...options } },
];
const dismiss: CommandPair = ['job-dismiss', { id: 'j' }];
const concluded: Step = {
  do: 'event',
  name: 'JOB_STATUS_CHANGE',
  on: 'main',
  containing: '"status": "concluded"',
};
const look: Step = { do: 'inspect', file: 'f.img' };
const add = (name: string, more: object = {}): CommandPair => [
  'blockdev-add',
  { driver: 'file', 'node-name': name, filename: `@DIR@/${name}.img`, ...more },
];

/** A job that has failed when its command is answered, or one that is refused. */
const atOnce = (options: object): Case =>
  scene(`at once ${JSON.stringify(options)}`, create(options), 'query-jobs', dismiss);
/** A job whose outcome is known only after its command is answered. */
const later = (options: object, ...more: Step[]): Case =>
  scene(
    `later ${JSON.stringify(options)}`,
    create(options),
    concluded,
    'query-jobs',
    ...more,
    dismiss,
    'query-named-block-nodes',
  );

const refused: Case[] = [
  scene('nothing but a driver', [
    'blockdev-create',
    { 'job-id': 'j', options: { driver: 'qcow2' } },
  ]),
  scene('no size', ['blockdev-create', { 'job-id': 'j', options: { driver: 'qcow2', file: 'f' } }]),
  ...[
    { file: 5 },
    { file: null },
    { file: { driver: 'file' } },
    { size: '1M' },
    { version: 'v4' },
    { version: 3 },
    { 'backing-fmt': 'nope' },
    { 'backing-file': null },
    { 'cluster-size': '64k' },
    { preallocation: 'some' },
    { 'lazy-refcounts': 1 },
    { 'refcount-bits': '16' },
    { 'compression-type': 'lzo' },
    { 'extended-l2': 'on' },
    { 'data-file-raw': 'on' },
    { 'data-file': 7 },
    { bogus: 1 },
    { filename: 'x' },
  ].map(atOnce),
];

const wrong: Case[] = [
  { file: 'nope' },
  { file: 'nope', size: 1 },
  { file: '', size: 1 },
  { size: 1 },
  { size: 513, 'cluster-size': 1 },
  { 'cluster-size': 0 },
  { 'cluster-size': 256 },
  { 'cluster-size': 513 },
  { 'cluster-size': 65535 },
  { 'cluster-size': 4 * MIB },
  { 'cluster-size': 4096 * MIB },
  { 'extended-l2': true, 'cluster-size': 8192 },
  { 'extended-l2': true, version: 'v2' },
  { 'extended-l2': true, version: 'v2', 'cluster-size': 3 },
  { preallocation: 'metadata', 'backing-file': 'b' },
  { preallocation: 'full', 'backing-file': 'b', 'backing-fmt': 'raw' },
  { 'backing-fmt': 'raw' },
  { 'lazy-refcounts': true, version: 'v2' },
  { 'refcount-bits': 0 },
  { 'refcount-bits': 3 },
  { 'refcount-bits': 128 },
  { 'refcount-bits': -1 },
  { 'refcount-bits': 8, version: 'v2' },
  { 'data-file-raw': true },
  { 'data-file-raw': true, 'backing-file': 'b', 'data-file': 'd' },
  { 'data-file': 'd', version: 'v2' },
  { 'data-file': 'nope' },
  { 'data-file': 'nope', 'compression-type': 'zstd', version: 'v2' },
  { 'compression-type': 'zstd', version: 'v2' },
  { file: 'ro' },
].map(atOnce);

const made: Case[] = [
  {},
  { size: 0 },
  { size: 512 },
  { size: 64 * MIB * MIB },
  { version: 'v2' },
  { version: 'v3', 'lazy-refcounts': true },
  { 'cluster-size': 512, 'refcount-bits': 1 },
  { 'cluster-size': 4096, 'refcount-bits': 64 },
  { 'cluster-size': 2 * MIB },
  { 'extended-l2': true },
  { 'compression-type': 'zlib', version: 'v2' },
  { 'compression-type': 'zstd' },
  { 'backing-file': 'no such file' },
  { 'backing-file': 'b', 'backing-fmt': 'qcow2' },
  { 'backing-file': '' },
  { 'backing-file': 'b'.repeat(1023), 'backing-fmt': 'raw' },
  { 'backing-file': 'b', 'extended-l2': true, preallocation: 'metadata' },
  { preallocation: 'metadata' },
  { preallocation: 'metadata', size: 100_352 },
].map((options) => later(options, look));

const failing: Case[] = [
  { size: 4096 * MIB * MIB },
  { size: 2048 * MIB * MIB, 'cluster-size': 512 },
  { 'backing-file': 'b'.repeat(1024), 'backing-fmt': 'raw' },
  { 'backing-file': 'b'.repeat(1024) },
  { 'backing-file': 'b'.repeat(600), 'cluster-size': 512 },
].map((options) => later(options));

const elsewhere: Case[] = [
  scene(
    'onto a file that has something else in it',
    add('old'),
    create({ file: 'old', preallocation: 'metadata' }),
    concluded,
    { do: 'inspect', file: 'old.img' },
    dismiss,
    del('old'),
  ),
  scene(
    'reserving less than there is',
    add('old'),
    create({ file: 'old', preallocation: 'falloc', size: 64 * KIB }),
    concluded,
    'query-jobs',
    dismiss,
    del('old'),
  ),
  scene(
    'onto a node that somebody writes',
    ['blockdev-add', { driver: 'raw', 'node-name': 'r', file: 'f' }],
    ['nbd-server-start', { addr: { type: 'unix', data: { path: '@DIR@/nbd.sock' } } }],
    ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'f', writable: true }],
    create({}),
    'query-jobs',
    dismiss,
    ['block-export-del', { id: 'e' }],
    'nbd-server-stop',
    del('r'),
  ),
  scene(
    'with a data file',
    add('d'),
    create({ 'data-file': 'd', size: 100 * KIB }),
    concluded,
    'query-jobs',
    { do: 'inspect', file: 'd.img' },
    dismiss,
    ['blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f', 'data-file': 'd' }],
    ['query-named-block-nodes', { flat: true }],
    del('q'),
    del('d'),
  ),
  scene(
    'with a raw data file',
    add('d'),
    create({ 'data-file': 'd', 'data-file-raw': true, size: 128 * KIB }),
    concluded,
    'query-jobs',
    { do: 'inspect', file: 'd.img' },
    dismiss,
    del('d'),
  ),
  scene(
    'in a window that is too small',
    ['blockdev-add', { driver: 'raw', 'node-name': 'w', file: 'old', size: 65536 }],
    add('old'),
    ['blockdev-add', { driver: 'raw', 'node-name': 'w', file: 'old', size: 65536 }],
    create({ file: 'w' }),
    concluded,
    'query-jobs',
    dismiss,
    del('w'),
    del('old'),
  ),
];

const inline: Case[] = [
  later({ file: { driver: 'file', filename: '@DIR@/g.img' } }, { do: 'inspect', file: 'g.img' }),
  later(
    {
      file: { driver: 'raw', file: { driver: 'file', filename: '@DIR@/g.img' } },
      'backing-file': 'x',
    },
    { do: 'inspect', file: 'g.img' },
  ),
  // The image has the name of the data file in it, and with it the directory.
  later(
    { 'data-file': { driver: 'file', filename: '@DIR@/h.img' } },
    { do: 'inspect', file: 'h.img' },
  ),
];

/** A new image, made longer and shorter. */
const resized = (options: object, ...sizes: readonly number[]): Case =>
  scene(
    `${JSON.stringify(options)} to ${sizes.join(', ')}`,
    create(options),
    concluded,
    dismiss,
    ['blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f' }],
    ...sizes.map((size): CommandPair => ['block_resize', { 'node-name': 'q', size }]),
    del('q'),
  );

const lengths: Case[] = [
  resized({}, 2 * MIB, 64 * KIB, 0, MIB, 1000, -1),
  resized({ size: 1024 * MIB }, 3 * 1024 * MIB, 512),
  resized({ preallocation: 'metadata' }, 512 * KIB, 100 * KIB + 512, 0),
  resized({ preallocation: 'metadata', 'cluster-size': 4096, size: 20 * MIB }, 3 * MIB, 512, 0),
  resized({ version: 'v2' }, 2 * MIB, 512 * KIB),
  resized({ 'extended-l2': true, preallocation: 'metadata' }, 100 * KIB, 2 * MIB),
  resized({ 'lazy-refcounts': true }, 3 * MIB, MIB),
];

/** The file of the data is told to give its space back while nobody has leave to write to it. */
const shortData: Case[] = [
  scene(
    'nodes',
    add('f'),
    add('d', { discard: 'unmap' }),
    create({ 'data-file': 'd', preallocation: 'metadata' }),
    concluded,
    dismiss,
    [
      'blockdev-add',
      { driver: 'qcow2', 'node-name': 'q', file: 'f', 'data-file': 'd', discard: 'unmap' },
    ],
  ),
  scene(
    'while nobody else writes',
    ['block_resize', { 'node-name': 'q', size: 512 * KIB }],
    del('q'),
  ),
];

export const qcow2Create: Area = {
  name: 'qcow2-create',
  groups: [
    {
      name: 'refused',
      files: [{ name: 'f.img' }, { name: 'd.img' }, { name: 'ro.img' }],
      cases: [
        scene('nodes', add('f'), add('d'), add('ro', { 'read-only': true })),
        ...refused,
        ...wrong,
      ],
    },
    {
      name: 'made',
      files: [{ name: 'f.img' }],
      // The file of one case is in the way of none that comes after it: each writes all that it needs.
      cases: [scene('node', add('f')), ...made, ...failing],
    },
    {
      name: 'resized',
      files: [{ name: 'f.img' }],
      cases: [scene('node', add('f')), ...lengths],
    },
    {
      name: 'shorter, with a data file',
      files: [{ name: 'f.img' }, { name: 'd.img' }],
      stderr: false,
      cases: shortData,
    },
    {
      name: 'elsewhere',
      files: [
        { name: 'f.img' },
        { name: 'd.img' },
        { name: 'g.img' },
        { name: 'h.img' },
        { name: 'old.img', length: 700_000, fill: [[0, 700_000, 0x5a]] },
      ],
      cases: [scene('node', add('f')), ...elsewhere, ...inline],
    },
  ],
};
