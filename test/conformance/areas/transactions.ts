// transaction: its arguments, each kind of action, and what is left of those that came to nothing.

import { type Area, ask, type Case, type CommandPair, scene } from '../case.ts';
import { del, graph, node, query } from '../node-commands.ts';

const action = (type: string, data: object = {}): object => ({ type, data });
const abort = action('abort');
const together = (...actions: object[]): CommandPair => ['transaction', { actions }];
const grouped = (...actions: object[]): CommandPair => [
  'transaction',
  { actions, properties: { 'completion-mode': 'grouped' } },
];
const bitmap = (verb: string, name: string, more: object = {}): object =>
  action(`block-dirty-bitmap-${verb}`, { node: 'n', name, ...more });
const merge = (target: string, ...bitmaps: unknown[]): object =>
  action('block-dirty-bitmap-merge', { node: 'n', target, bitmaps });
const nul = node({ driver: 'null-co', 'node-name': 'n', size: 1024 * 1024 });
const qcow2 = (name: string): CommandPair =>
  node({
    driver: 'qcow2',
    'node-name': name,
    backing: null,
    file: { driver: 'file', filename: `@DIR@/${name}.qcow2` },
  });
const internal = (name: string, device = 'a'): object =>
  action('blockdev-snapshot-internal-sync', { device, name });
const over = (below: string, overlay: string): object =>
  action('blockdev-snapshot', { node: below, overlay });
const sync = (below: string, more: object = {}): object =>
  action('blockdev-snapshot-sync', {
    'node-name': below,
    'snapshot-file': '@DIR@/new.qcow2',
    'snapshot-node-name': 'new',
    ...more,
  });

const badArguments: Case[] = [
  ask('transaction'),
  ask('transaction', {}),
  ask('transaction', { actions: {} }),
  ask('transaction', { actions: [] }),
  ask('transaction', { actions: [5] }),
  ask('transaction', { actions: [{}] }),
  ask('transaction', { actions: [{ type: 'abort' }] }),
  ask('transaction', { actions: [{ type: 'nope', data: {} }] }),
  ask('transaction', { actions: [{ type: 'abort', data: { bogus: 1 } }] }),
  ask('transaction', { actions: [{ type: 'abort', data: {}, bogus: 1 }] }),
  ask('transaction', { actions: [{ type: 'block-dirty-bitmap-add', data: { node: 'n' } }] }),
  ask('transaction', { actions: [], properties: {} }),
  ask('transaction', { actions: [], properties: { 'completion-mode': 'grouped' } }),
  ask('transaction', { actions: [], properties: { 'completion-mode': 'nope' } }),
  ask('transaction', { actions: [], properties: { bogus: 1 } }),
  ask('transaction', { actions: [abort] }),
  ask('transaction', { actions: [abort], properties: { 'completion-mode': 'grouped' } }),
];

const bitmaps: Case[] = [
  scene(
    'bitmaps',
    nul,
    together(bitmap('add', 'b'), bitmap('disable', 'b'), bitmap('add', 'c', { disabled: true })),
    query,
    together(bitmap('enable', 'b'), merge('c', 'b'), bitmap('clear', 'b')),
    query,
    together(bitmap('remove', 'b'), bitmap('add', 'b')),
    together(bitmap('remove', 'b'), bitmap('clear', 'b')),
    together(bitmap('remove', 'b'), bitmap('remove', 'b')),
    together(bitmap('remove', 'b'), merge('c', 'b')),
    query,
    together(bitmap('add', 'd'), merge('d', 'b', { node: 'n', name: 'c' }), bitmap('remove', 'c')),
    query,
    del('n'),
  ),
  scene(
    'bitmaps of transactions that fail',
    nul,
    together(bitmap('add', 'b'), abort),
    together(bitmap('add', 'b'), bitmap('add', 'b')),
    query,
    ['block-dirty-bitmap-add', { node: 'n', name: 'b' }],
    together(bitmap('disable', 'b'), bitmap('clear', 'b'), abort),
    together(bitmap('remove', 'b'), abort),
    together(bitmap('add', 'c'), merge('c', 'b'), bitmap('remove', 'b'), abort),
    together(bitmap('add', 'c'), merge('c', 'nope')),
    together(bitmap('add', 'c', { node: 'nope' })),
    query,
    del('n'),
  ),
  scene(
    'grouped',
    nul,
    ['block-dirty-bitmap-add', { node: 'n', name: 'b' }],
    grouped(bitmap('add', 'c')),
    grouped(bitmap('remove', 'b')),
    grouped(bitmap('clear', 'b')),
    grouped(merge('b', 'b')),
    grouped(over('n', 'n')),
    grouped(internal('one', 'n')),
    grouped(sync('n')),
    query,
    del('n'),
  ),
];

const snapshots: Case[] = [
  scene(
    'internal snapshots',
    qcow2('a'),
    qcow2('b'),
    together(internal('one'), internal('two'), internal('one', 'b')),
    together(internal('three'), internal('one')),
    together(internal('three'), internal('three')),
    together(internal('four'), internal('two', 'b'), abort),
    together(internal('four')),
    ['blockdev-snapshot-delete-internal-sync', { device: 'a', name: 'four' }],
    ['blockdev-snapshot-delete-internal-sync', { device: 'b', id: '2' }],
    del('a'),
    del('b'),
  ),
  scene(
    'overlays',
    qcow2('a'),
    qcow2('b'),
    qcow2('c'),
    together(over('a', 'b'), abort),
    graph,
    together(over('a', 'b'), over('a', 'c')),
    graph,
    together(over('a', 'b'), over('b', 'c')),
    graph,
    del('c'),
    del('b'),
    del('a'),
    qcow2('a'),
    qcow2('b'),
    together(over('a', 'b'), internal('one', 'a')),
    together(internal('never', 'a'), over('a', 'nope')),
    together(sync('a', { 'snapshot-file': '@DIR@/aborted.qcow2' }), abort),
    graph,
    together(over('a', 'b'), sync('b')),
    graph,
    del('b'),
    del('a'),
  ),
];

export const transactions: Area = {
  name: 'transactions',
  groups: [
    {
      name: 'transactions',
      // The reference tells on standard output of images that it makes.
      monitor: 'socket',
      files: ['a', 'b', 'c'].map((name) => ({ name: `${name}.qcow2`, qcow2: { data: [1] } })),
      cases: [...badArguments, ...bitmaps, ...snapshots],
    },
    {
      name: 'enabling a bitmap that is not there',
      stderr: false,
      cases: [
        scene('after adding one', nul, together(bitmap('add', 'b'), bitmap('enable', 'nope')), [
          'block-dirty-bitmap-remove',
          { node: 'n', name: 'b' },
        ]),
      ],
    },
  ],
};
