// blkverify and blklogwrites, which write to two nodes at a time.

import { ask, type Case, type CommandPair, scene } from '../../case.ts';
import { again, del, graph, nbdExport, node, removeExport, stats } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { common } from './common.ts';
import { file, inline, nul, query, tempTarget } from './steps.ts';

/** A node over `a.img` and `b.img`, shown, exported, and taken away again. */
const overTwo = (options: object): Case => ({
  id: ask('blockdev-add', options).id,
  steps: scene(
    '',
    node(file()),
    node(tempTarget()),
    node(options),
    query,
    graph,
    nbdExport('x'),
    graph,
    removeExport,
    del('x'),
    del('t'),
    del('f'),
  ).steps,
});

const verify = (more: object = {}): object => ({
  driver: 'blkverify',
  'node-name': 'x',
  raw: 'f',
  test: 't',
  ...more,
});

export const blkverifyNodes: Case[] = [
  ...[
    {},
    { test: 'nope' },
    { raw: 'nope' },
    { raw: null },
    { test: 5 },
    { test: 'f' },
    { bogus: 1 },
    { 'read-only': true },
    { 'detect-zeroes': 'on' },
    { test: {} },
    { cache: {} },
  ].map((more) => overTwo(verify(more))),
  ask('blockdev-add', { driver: 'blkverify', 'node-name': 'x', raw: 'f' }),
  ask('blockdev-add', { driver: 'blkverify', 'node-name': 'x', test: 'f' }),
  scene(
    'blkverify: inline nodes, resized and reopened',
    node(verify({ raw: inline(), test: nul({ 'node-name': 'own', size: MIB / 2 }) })),
    query,
    stats,
    ['block_resize', { 'node-name': 'x', size: MIB }],
    query,
    again(verify({ raw: 'f', test: 'own' })),
    del('own'),
    del('x'),
  ),
  scene(
    'blkverify: over two files',
    node(verify({ raw: inline(), test: inline({ filename: '@DIR@/b.img' }) })),
    query,
    del('x'),
  ),
  scene(
    'blkverify: a read-only node to test',
    node(file()),
    node(tempTarget({ 'read-only': true })),
    node(verify()),
    nbdExport('x'),
    nbdExport('x', false),
    graph,
    removeExport,
    del('x'),
    del('t'),
    del('f'),
  ),
];

const noting = (more: object = {}): object => ({
  driver: 'blklogwrites',
  'node-name': 'x',
  file: 'f',
  log: 't',
  ...more,
});

export const blklogwritesNodes: Case[] = [
  ...common('blklogwrites', { log: nul({ 'node-name': 'l' }) }),
  ...[
    {},
    { log: 'nope' },
    { log: null },
    { log: 'f' },
    { 'log-sector-size': 512 },
    { 'log-sector-size': 4096, 'log-append': false },
    { 'log-sector-size': 32 },
    { 'log-sector-size': 16 },
    { 'log-sector-size': 0 },
    { 'log-sector-size': 513 },
    { 'log-sector-size': 8388608 },
    { 'log-sector-size': 16777216 },
    { 'log-sector-size': -1 },
    { 'log-sector-size': 'x' },
    { 'log-super-update-interval': 1 },
    { 'log-super-update-interval': 0 },
    { 'log-append': true },
    { 'log-append': true, 'log-sector-size': 512 },
    { 'log-append': 'on' },
    { 'read-only': true },
  ].map((more) => overTwo(noting(more))),
  scene('blklogwrites: no log', node(file()), node(noting({ log: undefined })), del('f')),
  scene(
    'blklogwrites: goes on with logs',
    node(file()),
    ...['good', 'empty', 'version', 'sector', 'flags', 'magic'].flatMap((name): CommandPair[] => [
      node(noting({ log: inline({ filename: `@DIR@/${name}.log` }), 'log-append': true })),
      query,
      del('x'),
    ]),
    del('f'),
  ),
];

/** The superblock of a log with one entry, and that entry, as bytes to fill a file with. */
const logFile = (name: string, { version = 1, sector = 2, flags = 0 }) => ({
  name: `${name}.log`,
  length: 2048,
  fill: [
    ...[0x72, 0x68, 0x73, 0x77, 0x66, 0x73, 0x6a].map((byte, at) => [at, 1, byte] as const),
    [8, 1, version],
    [16, 1, 1],
    [25, 1, sector],
    [520, 1, 1],
    [529, 1, flags],
  ] as const,
});

export const logs = [
  logFile('good', {}),
  { name: 'empty.log', length: 0 },
  logFile('version', { version: 2 }),
  logFile('sector', { sector: 3 }),
  logFile('flags', { flags: 1 }),
  { name: 'magic.log', length: 512 },
];
