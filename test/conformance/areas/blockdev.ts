// Block nodes: blockdev-add and -del of the drivers file, raw and null with all their options, queries, resizing,
// permissions, locking.

import { type Area, ask, type Case, scene } from '../case.ts';
import { del, node, query } from '../node-commands.ts';
import { KIB, MIB } from '../sizes.ts';
import { badArguments } from './blockdev/arguments.ts';
import { locking } from './blockdev/locking.ts';
import { looks } from './blockdev/looks.ts';
import { resizing } from './blockdev/resizing.ts';
import { file, nbdExport, nul, raw, refuse, removeExport } from './blockdev/steps.ts';

const files = [
  { name: 'a.img', length: 10 * MIB, fill: [[0, 128 * KIB, 0x11]] as const },
  { name: 'b.img', length: MIB },
  { name: 'odd.img', length: 1000, fill: [[0, 1000, 0x22]] as const },
  { name: 'empty.img', length: 0 },
  { name: 'a,b "c" \\d.img', length: MIB },
  { name: 'directory', kind: 'directory' as const },
  { name: 'link.img', kind: 'symlink' as const, target: 'b.img' },
  { name: 'dangling.img', kind: 'symlink' as const, target: 'nowhere' },
];

const deletion: Case[] = [
  ask('blockdev-del'),
  ask('blockdev-del', { 'node-name': 5 }),
  ask('blockdev-del', { 'node-name': 'nope' }),
  ask('blockdev-del', { 'node-name': '' }),
  ask('blockdev-del', { id: 'nope' }),
  scene('twice', node(nul()), del('x'), del('x')),
  scene(
    'a child',
    node(nul()),
    node(raw({ 'node-name': 'r', file: 'x' })),
    del('x'),
    del('r'),
    del('x'),
  ),
  scene('an implicit child goes with its parent', node(raw()), query, del('x'), query),
  scene(
    'a named inline child stays or goes',
    node(raw({ file: { driver: 'null-co', 'node-name': 'inner' } })),
    del('inner'),
    del('x'),
    del('inner'),
  ),
  scene('a name is free again', node(nul()), node(nul()), del('x'), node(nul()), del('x')),
  scene('duplicate name', node(nul()), node(file()), node(raw()), del('x')),
  scene('31 characters', node(nul({ 'node-name': 'n'.repeat(31) })), del('n'.repeat(31))),
  scene('case counts', node(nul()), node(nul({ 'node-name': 'X' })), query, del('X'), del('x')),
];

const queries: Case[] = [
  ask('query-named-block-nodes', { flat: 'x' }),
  ask('query-named-block-nodes', { bogus: 1 }),
  ask('query-named-block-nodes'),
  ask('query-named-block-nodes', { flat: false }),
  ask('query-named-block-nodes', { flat: true }),
  ask('query-block'),
  ask('query-block', { x: 1 }),
  ask('query-blockstats', { 'query-nodes': 'x' }),
  ask('query-blockstats'),
  ask('query-blockstats', { 'query-nodes': false }),
  ask('query-blockstats', { 'query-nodes': true }),
  scene(
    'newest first',
    node(nul({ 'node-name': 'n1' })),
    node(nul({ 'node-name': 'n2' })),
    node(raw({ 'node-name': 'r', file: 'n1' })),
    ['query-blockstats', { 'query-nodes': true }],
    'query-named-block-nodes',
    del('r'),
    del('n1'),
    ['query-blockstats', { 'query-nodes': true }],
    del('n2'),
  ),
];

const readOnly: Case[] = [
  scene(
    'raw writable over a read-only file',
    node(file({ 'read-only': true })),
    node({ driver: 'raw', 'node-name': 'r', file: 'x' }),
    del('r'),
    del('x'),
  ),
  scene(
    'raw with auto-read-only over a read-only file',
    node(file({ 'read-only': true })),
    node({ driver: 'raw', 'node-name': 'r', file: 'x', 'auto-read-only': true }),
    query,
    del('r'),
    del('x'),
  ),
  scene(
    'writable export of an auto-read-only node',
    node(file({ 'auto-read-only': true })),
    query,
    nbdExport({ 'node-name': 'x' }),
    query,
    removeExport,
    query,
    del('x'),
  ),
  scene(
    'read-only raw over a writable file',
    node(file()),
    node({ driver: 'raw', 'node-name': 'r', file: 'x', 'read-only': true }),
    nbdExport({ 'node-name': 'r' }),
    nbdExport({ 'node-name': 'r', writable: false }),
    removeExport,
    del('r'),
    del('x'),
  ),
];

const started = [
  '--blockdev',
  'file,node-name=f,filename=@DIR@/a.img',
  '--blockdev',
  'file,node-name=ro,filename=@DIR@/b.img,read-only=on',
  '--blockdev',
  'null-co,node-name=n,size=1048576',
];
const server = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];

export const blockdev: Area = {
  name: 'blockdev',
  groups: [
    { name: 'blockdev-add', files, cases: badArguments },
    { name: 'blockdev-del', files, cases: deletion },
    { name: 'nodes', files, cases: looks },
    { name: 'queries', files, cases: queries },
    { name: 'resize', files, arguments: [...started, ...server], cases: resizing },
    { name: 'locking', files, arguments: server, cases: locking },
    { name: 'read-only', files, arguments: server, cases: readOnly },
    {
      name: 'null with a negative size',
      stderr: false,
      cases: [refuse(nul({ size: -1 }))],
    },
    {
      name: 'files without permission',
      files: [{ name: 'ro.img', length: MIB, mode: 0o444 }],
      cases: [
        scene(
          'a file that cannot be written',
          node(file({ filename: '@DIR@/ro.img', 'read-only': true })),
          del('x'),
        ),
      ],
    },
  ],
};
