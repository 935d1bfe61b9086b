// copy-on-read, preallocate, copy-before-write and snapshot-access.

import { ask, type Case, scene } from '../../case.ts';
import { again, del, graph, nbdExport, node, removeExport, stats } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { common } from './common.ts';
import { file, nul, query, target, tempTarget, tryNode } from './steps.ts';

export const corNodes: Case[] = [
  ...common('copy-on-read'),
  tryNode('copy-on-read', { file: 'f', bottom: 'nope' }),
  tryNode('copy-on-read', { file: 'f', bottom: '' }),
  tryNode('copy-on-read', { file: 'f', bottom: 5 }),
  tryNode('copy-on-read', { file: 'f', bottom: 'f' }),
  scene(
    'copy-on-read to a bottom that is a filter',
    node(file()),
    node({ driver: 'copy-on-read', 'node-name': 'y', file: 'f' }),
    node({ driver: 'copy-on-read', 'node-name': 'x', file: 'y', bottom: 'y' }),
    del('y'),
    del('f'),
  ),
];

export const preallocateNodes: Case[] = [
  ...common('preallocate'),
  ...[
    { 'prealloc-align': 512 },
    { 'prealloc-align': 0 },
    { 'prealloc-align': 511 },
    { 'prealloc-align': -1 },
    { 'prealloc-align': '1M' },
    { 'prealloc-size': 0 },
    { 'prealloc-size': -1 },
    { 'prealloc-size': 5 },
    { 'prealloc-size': null },
  ].map((own) => tryNode('preallocate', { ...own, file: 'f' })),
  scene(
    'preallocate: options that are changed',
    node(file()),
    node({ driver: 'preallocate', 'node-name': 'x', file: 'f', 'prealloc-size': 4096 }),
    again({ driver: 'preallocate', 'node-name': 'x', file: 'f' }),
    again({ driver: 'preallocate', 'node-name': 'x', file: 'f', 'prealloc-size': 8192 }),
    again({ driver: 'preallocate', 'node-name': 'x', file: 'f', 'prealloc-align': 511 }),
    again({ driver: 'preallocate', 'node-name': 'x', file: 'f', 'prealloc-align': 4096 }),
    query,
    del('x'),
    del('f'),
  ),
];

const cbw = (more: object = {}): object => ({
  driver: 'copy-before-write',
  'node-name': 'x',
  file: 'f',
  target: 't',
  ...more,
});
const tryCbw = (more: object): Case => ({
  id: ask('blockdev-add', cbw(more)).id,
  steps: scene(
    '',
    node(file()),
    node(tempTarget()),
    ['block-dirty-bitmap-add', { node: 'f', name: 'b' }],
    node(cbw(more)),
    query,
    graph,
    del('x'),
    del('t'),
    del('f'),
  ).steps,
});

export const cbwNodes: Case[] = [
  ...[
    {},
    { target: 'nope' },
    { target: 'f' },
    { target: null },
    { bitmap: { node: 'f', name: 'b' } },
    { bitmap: { node: 'f', name: 'nope' } },
    { bitmap: { node: 'nope', name: 'b' } },
    { bitmap: { node: 'f' } },
    { bitmap: 'b' },
    { 'on-cbw-error': 'break-snapshot' },
    { 'on-cbw-error': 'break-guest-write' },
    { 'on-cbw-error': 'nope' },
    { 'cbw-timeout': 5 },
    { 'cbw-timeout': 0 },
    { 'cbw-timeout': -1 },
    { 'cbw-timeout': 2 ** 32 },
    { 'read-only': true },
    { bogus: 1 },
  ].map(tryCbw),
  scene(
    'a target that does not know its clusters',
    node(file()),
    target,
    node(cbw()),
    query,
    again(cbw()),
    del('x'),
    del('t'),
    del('f'),
  ),
  scene(
    'a bitmap of another size',
    node(file()),
    node(nul({ size: 512 })),
    node(tempTarget()),
    ['block-dirty-bitmap-add', { node: 'n', name: 'b' }],
    node(cbw({ bitmap: { node: 'n', name: 'b' } })),
    del('t'),
    del('n'),
    del('f'),
  ),
  scene(
    'fleecing: permissions',
    node(file()),
    node(tempTarget()),
    node(cbw()),
    node({ driver: 'snapshot-access', 'node-name': 's', file: 'x' }),
    query,
    stats,
    graph,
    nbdExport('x'),
    ['block-export-add', { type: 'nbd', id: 'e2', 'node-name': 's' }],
    graph,
    ['block-export-add', { type: 'nbd', id: 'e3', 'node-name': 'f', writable: true, name: 'f' }],
    ['block-export-add', { type: 'nbd', id: 'e4', 'node-name': 't', writable: true, name: 't' }],
    again({ driver: 'snapshot-access', 'node-name': 's', file: 'x' }),
    ['block_resize', { 'node-name': 's', size: MIB }],
    del('x'),
    removeExport,
    ['block-export-del', { id: 'e2', mode: 'hard' }],
    del('x'),
    del('s'),
    del('x'),
    del('f'),
  ),
  scene(
    'snapshot-access over what has no past',
    node(file()),
    node({ driver: 'snapshot-access', 'node-name': 's', file: 'f' }),
    query,
    node({ driver: 'snapshot-access', 'node-name': 'u', file: 'f', bogus: 1 }),
    node({ driver: 'snapshot-access', 'node-name': 'u', file: 'nope' }),
    node({ driver: 'snapshot-access', 'node-name': 'u' }),
    del('f'),
    del('s'),
    del('f'),
  ),
];
