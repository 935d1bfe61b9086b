// blockdev-reopen of all drivers and settings, alone and in lists, and the block graph before and after.

import {
  type Area,
  ask,
  type Case,
  type CommandPair,
  type Step,
  scene,
  verbatim,
} from '../case.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const node = (options: object): CommandPair => ['blockdev-add', options];
const del = (name: string): CommandPair => ['blockdev-del', { 'node-name': name }];
const again = (...options: unknown[]): CommandPair => ['blockdev-reopen', { options }];
const query: CommandPair = ['query-named-block-nodes', { flat: true }];
const graph: CommandPair = ['x-debug-query-block-graph', {}];
const nbdExport = (name: string, writable = true): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: `e-${name}`, 'node-name': name, writable },
];
const removeExport = (name: string): CommandPair => ['block-export-del', { id: `e-${name}` }];
const server: CommandPair = [
  'nbd-server-start',
  { addr: { type: 'unix', data: { path: '@DIR@/nbd.sock' } } },
];

const file = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: '@DIR@/a.img',
  ...more,
});
const nul = (more: object = {}): object => ({ driver: 'null-co', 'node-name': 'n', ...more });
const raw = (more: object = {}): object => ({
  driver: 'raw',
  'node-name': 'r',
  file: 'f',
  ...more,
});
const inline = (more: object = {}): object => ({
  driver: 'file',
  filename: '@DIR@/a.img',
  ...more,
});

const badArguments: Case[] = [
  ask('blockdev-reopen'),
  ask('blockdev-reopen', {}),
  ask('blockdev-reopen', { options: {} }),
  ask('blockdev-reopen', { options: 5 }),
  ask('blockdev-reopen', { options: null }),
  ask('blockdev-reopen', { options: [5] }),
  ask('blockdev-reopen', { options: [[]] }),
  ask('blockdev-reopen', { options: [{}] }),
  ask('blockdev-reopen', { options: [nul(), {}] }),
  ask('blockdev-reopen', { options: [{ driver: 'nope' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'file' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'raw', 'node-name': 'x' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'null-co' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'null-co', 'node-name': '' }] }),
  ask('blockdev-reopen', { options: [nul({ 'node-name': 'nope' })] }),
  ask('blockdev-reopen', { options: [nul({ 'node-name': 5 })] }),
  ask('blockdev-reopen', { options: [nul({ bogus: 5 })] }),
  ask('blockdev-reopen', { options: [nul({ 'read-only': 'yes' })] }),
  ask('blockdev-reopen', { options: [], bogus: 1 }),
];

/** Adds a node, reopens it in several ways with a look after each, and takes it away. */
const ways = (id: string, first: object, ...options: object[]): Case => {
  const name = (first as { 'node-name': string })['node-name'];
  const steps = options.flatMap((each) => [again(each), query]);
  return scene(id, node(first), ...steps, del(name));
};
/** The same, where only the answers matter. */
const tries = (id: string, first: object, ...options: object[]): Case => {
  const name = (first as { 'node-name': string })['node-name'];
  return scene(id, node(first), ...options.map((each) => again(each)), query, del(name));
};

const settings: readonly object[] = [
  {},
  { 'read-only': true },
  { 'read-only': false },
  { 'auto-read-only': true },
  { 'read-only': true, 'auto-read-only': true },
  { cache: { direct: true } },
  { cache: { 'no-flush': true } },
  { cache: { direct: false, 'no-flush': false } },
  { cache: {} },
  { discard: 'unmap' },
  { 'detect-zeroes': 'on' },
  { 'detect-zeroes': 'unmap' },
  { discard: 'unmap', 'detect-zeroes': 'unmap' },
  { discard: 'ignore', 'detect-zeroes': 'unmap' },
  { discard: 'ignore' },
  { 'force-share': true },
  { 'force-share': false },
  { 'force-share': true, 'read-only': true },
];

const alone: Case[] = [
  ways('settings of null-co', nul({ size: MIB }), ...settings.map((s) => nul({ size: MIB, ...s }))),
  ways('settings of file', file(), ...settings.map((s) => file(s))),
  tries('driver', nul(), nul({ driver: 'null-aio' }), file({ 'node-name': 'n' })),
  tries(
    'driver of a file',
    file(),
    { ...file(), driver: 'host_device' },
    nul({ 'node-name': 'f' }),
  ),
  tries(
    'options of null-co that were not given',
    nul(),
    nul({ size: 1024 * MIB }),
    nul({ 'latency-ns': 0 }),
    nul({ 'read-zeroes': false }),
    nul({ 'read-zeroes': true, size: 5, 'latency-ns': 7 }),
  ),
  tries(
    'options of null-co that were given',
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul(),
    nul({ size: MIB }),
    nul({ size: MIB, 'latency-ns': 5 }),
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul({ size: 2 * MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul({ size: MIB, 'latency-ns': 6, 'read-zeroes': true }),
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': false }),
    nul({ size: verbatim('1048576.0'), 'latency-ns': 5, 'read-zeroes': true }),
  ),
  tries(
    'options of file',
    file(),
    file({ filename: '@DIR@/b.img' }),
    file({ filename: '@DIR@/./a.img' }),
    file({ filename: '' }),
    file({ locking: 'auto' }),
    file({ locking: 'off' }),
    file({ aio: 'threads' }),
  ),
  tries(
    'options of file that were given',
    file({ locking: 'off', aio: 'threads' }),
    file(),
    file({ locking: 'off' }),
    file({ aio: 'threads' }),
    file({ locking: 'off', aio: 'threads' }),
    file({ locking: 'on', aio: 'threads' }),
  ),
  tries(
    'force-share that was given',
    file({ 'force-share': true, 'read-only': true }),
    file({ 'read-only': true }),
    file({ 'read-only': true, 'force-share': true }),
    file({ 'read-only': true, 'force-share': false }),
    file({ 'force-share': true }),
  ),
  tries(
    'settings that were given',
    nul({ 'read-only': true, cache: { direct: true }, discard: 'unmap', 'detect-zeroes': 'unmap' }),
    nul(),
    nul({ 'detect-zeroes': 'unmap' }),
    nul({ discard: 'ignore' }),
    nul({ 'detect-zeroes': 'unmap' }),
  ),
];

const windows: Case[] = [
  scene(
    'a window of raw',
    node(file()),
    node(raw()),
    ...[
      {},
      { offset: 4096 },
      { offset: 4096, size: 65536 },
      { size: 512 },
      { size: 0 },
      { offset: 0, size: MIB },
      { offset: MIB },
      { offset: MIB, size: 0 },
      { offset: MIB + 1 },
      { offset: 4096, size: MIB },
      { size: 1000 },
      { size: -512 },
      { offset: -1 },
      { offset: 1 },
      {},
    ].flatMap((window) => [again(raw(window)), query]),
    graph,
    del('r'),
    del('f'),
  ),
  scene(
    'a node that was a window',
    node(file()),
    node(raw({ offset: 512, size: 1024 })),
    graph,
    again(raw()),
    graph,
    query,
    again(raw({ offset: 1024 })),
    query,
    del('r'),
    del('f'),
  ),
];

const children: Case[] = [
  scene(
    'another file',
    node(file()),
    node(file({ 'node-name': 'g', filename: '@DIR@/b.img' })),
    node(raw()),
    again(raw({ file: 'f' })),
    again(raw({ file: 'nope' })),
    again(raw({ file: '' })),
    again(raw({ file: 'r' })),
    again(raw({ file: null })),
    again(raw({ file: inline() })),
    again(raw({ file: inline({ 'node-name': 'f' }) })),
    again(raw({ file: inline({ 'node-name': 'new' }) })),
    query,
    again(raw({ file: 'g' })),
    graph,
    query,
    // The window has to fit into the file it had.
    again(raw({ file: 'f', size: 2 * MIB })),
    query,
    again(raw({ file: 'g', size: 2 * MIB })),
    again(raw({ file: 'g' })),
    del('f'),
    del('g'),
    del('r'),
    del('g'),
  ),
  scene(
    'a file of its own',
    node(raw({ file: inline({ 'node-name': 'own' }) })),
    again(raw({ file: inline() })),
    query,
    again(raw({ file: inline({ 'node-name': 'own' }) })),
    again(raw({ file: inline({ filename: '@DIR@/b.img' }) })),
    again(raw({ file: inline({ driver: 'host_device' }) })),
    again(raw({ file: nul() })),
    again(raw({ file: 'own' })),
    again(raw({ 'read-only': true, file: 'own' })),
    query,
    again(
      raw({ 'read-only': true, cache: { direct: true }, file: inline({ 'read-only': false }) }),
    ),
    query,
    again(raw({ cache: { 'no-flush': true }, file: 'own' })),
    query,
    again(file({ 'node-name': 'own', discard: 'ignore' })),
    again(file({ 'node-name': 'own', 'read-only': true })),
    query,
    again(raw({ file: 'own', offset: 512 })),
    query,
    del('r'),
    query,
  ),
  scene(
    'a file of its own without a name',
    node(raw({ file: inline() })),
    again(raw({ file: inline() })),
    again(raw({ file: inline({ 'node-name': 'now' }) })),
    again(raw({ 'auto-read-only': true, file: inline({ 'detect-zeroes': 'on' }) })),
    query,
    del('r'),
  ),
  scene(
    'a file of its own goes with its place',
    node(file({ 'node-name': 'g', filename: '@DIR@/b.img' })),
    node(raw({ file: inline({ 'node-name': 'own' }) })),
    again(raw({ file: 'g' })),
    query,
    graph,
    again(raw({ file: 'own' })),
    del('r'),
    del('g'),
  ),
  scene(
    'raw over raw over file',
    node(raw({ file: { driver: 'raw', 'node-name': 'm', file: inline({ 'node-name': 'own' }) } })),
    again(raw({ 'read-only': true, file: 'm' })),
    query,
    again(raw({ file: 'own' })),
    graph,
    query,
    again(raw({ file: inline() })),
    del('r'),
    query,
  ),
  scene(
    'cycles',
    node(file()),
    node(raw({ 'node-name': 'a' })),
    node(raw({ 'node-name': 'b' })),
    again(raw({ 'node-name': 'a', file: 'b' }), raw({ 'node-name': 'b', file: 'a' })),
    graph,
    again(raw({ 'node-name': 'a', file: 'b' })),
    again(raw({ 'node-name': 'b', file: 'a' })),
    again(raw({ 'node-name': 'b', file: 'b' })),
    graph,
    del('b'),
    again(raw({ 'node-name': 'a', file: 'f' })),
    del('b'),
    del('a'),
    del('f'),
  ),
];

const lists: Case[] = [
  scene(
    'all or none',
    node(nul()),
    node(nul({ 'node-name': 'm', size: MIB })),
    node(file()),
    again(nul({ 'read-only': true }), nul({ 'node-name': 'm' })),
    again(nul({ 'read-only': true }), nul({ 'node-name': 'm', size: 5 })),
    again(nul({ 'read-only': true }), nul({ 'node-name': 'nope' })),
    again(nul({ 'read-only': true }), { driver: 'null-co' }),
    again(nul({ 'read-only': true }), file({ 'read-only': true, locking: 'off' })),
    query,
    again(
      nul({ 'read-only': true }),
      nul({ 'node-name': 'm', size: MIB, cache: { direct: true } }),
      file({ 'read-only': true }),
    ),
    query,
    del('n'),
    del('m'),
    del('f'),
  ),
  scene(
    'a node twice',
    node(nul()),
    again(nul({ 'read-only': true }), nul({ discard: 'unmap' })),
    query,
    again(nul({ 'read-only': true }), nul({ 'read-only': false })),
    query,
    again(nul(), nul()),
    query,
    del('n'),
  ),
  scene(
    'a node and the file inside it',
    node(raw({ file: inline({ 'node-name': 'own' }) })),
    again(raw({ file: 'own' }), file({ 'node-name': 'own', 'read-only': true })),
    query,
    again(file({ 'node-name': 'own', 'read-only': true }), raw({ file: 'own' })),
    query,
    again(
      raw({ file: inline({ cache: { direct: true } }) }),
      file({ 'node-name': 'own', 'detect-zeroes': 'on' }),
    ),
    query,
    del('r'),
  ),
  scene(
    'a file given up by one and taken by another',
    node(file()),
    node(file({ 'node-name': 'g', filename: '@DIR@/b.img' })),
    node(raw({ 'node-name': 'a', file: 'f' })),
    node(raw({ 'node-name': 'b', file: 'g' })),
    again(raw({ 'node-name': 'a', file: 'g' }), raw({ 'node-name': 'b', file: 'f' })),
    graph,
    query,
    again(raw({ 'node-name': 'a', file: 'f' }), raw({ 'node-name': 'b', file: 'nope' })),
    graph,
    del('a'),
    del('b'),
    del('f'),
    del('g'),
  ),
];

const users: Case[] = [
  scene(
    'read-only under a writer',
    server,
    node(file()),
    node(raw()),
    nbdExport('r'),
    graph,
    again(raw({ 'read-only': true })),
    again(file({ 'read-only': true })),
    again(raw({ 'read-only': true }), file({ 'read-only': true })),
    again(file({ 'read-only': true }), raw({ 'read-only': true })),
    again(file({ 'auto-read-only': true })),
    query,
    again(file({ cache: { direct: true } })),
    again(file()),
    again(raw({ offset: 512 })),
    query,
    removeExport('r'),
    again(raw({ 'read-only': true })),
    nbdExport('r'),
    nbdExport('r', false),
    again(raw({})),
    removeExport('r'),
    nbdExport('r'),
    removeExport('r'),
    del('r'),
    del('f'),
  ),
  scene(
    'another file under a writer',
    node(file()),
    node(file({ 'node-name': 'g', filename: '@DIR@/b.img' })),
    node(file({ 'node-name': 'ro', filename: '@DIR@/b.img', 'read-only': true })),
    node(raw()),
    nbdExport('r'),
    again(raw({ file: 'ro' })),
    graph,
    again(raw({ file: 'g' })),
    graph,
    nbdExport('f'),
    again(raw({ file: 'f' })),
    graph,
    removeExport('f'),
    removeExport('r'),
    del('r'),
    del('f'),
    del('g'),
    del('ro'),
  ),
  scene(
    'a file with a length that cannot be written to its end',
    node(file({ filename: '@DIR@/odd.img' })),
    node(raw()),
    nbdExport('r'),
    again(raw({ offset: 512 })),
    again(file({ filename: '@DIR@/odd.img', cache: { direct: true } })),
    query,
    removeExport('r'),
    del('r'),
    del('f'),
  ),
];

const remove = (name: string): Step => ({ do: 'remove file', file: name });

const gone: Case[] = [
  scene(
    'a file that is not there any more',
    node(file({ filename: '@DIR@/gone.img' })),
    remove('gone.img'),
    again(file({ filename: '@DIR@/gone.img', 'read-only': true })),
    again(file({ filename: '@DIR@/gone.img', cache: { direct: true } })),
    again(file({ filename: '@DIR@/gone.img', 'detect-zeroes': 'on' })),
    query,
    del('f'),
  ),
  scene(
    'a file that is not there any more, in a list',
    node(file({ filename: '@DIR@/gone too.img' })),
    remove('gone too.img'),
    node(nul()),
    again(nul({ 'read-only': true }), file({ filename: '@DIR@/gone too.img', 'read-only': true })),
    query,
    del('f'),
    del('n'),
  ),
  scene(
    'a file that is not there any more, after a reopening that changes nothing',
    node(file({ filename: '@DIR@/gone again.img' })),
    again(file({ filename: '@DIR@/gone again.img' })),
    remove('gone again.img'),
    again(file({ filename: '@DIR@/gone again.img', 'read-only': true })),
    del('f'),
  ),
];

export const reopen: Area = {
  name: 'reopen',
  groups: [
    {
      name: 'reopen',
      files: [
        { name: 'a.img', length: MIB, fill: [[0, 4096, 0x11]] },
        { name: 'b.img', length: 2 * MIB },
        { name: 'odd.img', length: 1000, fill: [[0, 1000, 0x22]] },
        { name: 'gone.img', length: MIB },
        { name: 'gone too.img', length: MIB },
        { name: 'gone again.img', length: MIB },
      ],
      cases: [
        ...badArguments,
        scene('an empty graph', graph),
        ...alone,
        ...windows,
        ...children,
        ...lists,
        ...users,
        ...gone,
      ],
    },
    {
      name: 'nothing to reopen',
      cases: [ask('blockdev-reopen', { options: [] })],
    },
  ],
};
