// blockdev-reopen of all drivers and settings, alone and in lists, and the block graph before and after.

import { type Area, ask, type Case, type CommandPair, type Step, scene } from '../case.ts';
import { again, del, graph, node, query } from '../node-commands.ts';
import { MIB } from '../sizes.ts';
import { alone, badArguments } from './reopen/alone.ts';
import { children, windows } from './reopen/children.ts';
import { file, inline, nul, raw } from './reopen/steps.ts';

const nbdExport = (name: string, writable = true): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: `e-${name}`, 'node-name': name, writable },
];
const removeExport = (name: string): CommandPair => ['block-export-del', { id: `e-${name}` }];
const server: CommandPair = [
  'nbd-server-start',
  { addr: { type: 'unix', data: { path: '@DIR@/nbd.sock' } } },
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
