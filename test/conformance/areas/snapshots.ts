// Snapshots: inside an image, and as overlays.

import { type Area, ask, type Case, type CommandPair, scene } from '../case.ts';

const node = (options: object): CommandPair => ['blockdev-add', options];
const del = (name: string): CommandPair => ['blockdev-del', { 'node-name': name }];
const take = (name: string, device = 'q'): CommandPair => [
  'blockdev-snapshot-internal-sync',
  { device, name },
];
const drop = (which: { id?: string; name?: string }, device = 'q'): CommandPair => [
  'blockdev-snapshot-delete-internal-sync',
  { device, ...which },
];
const file = (name: string, more: object = {}): object => ({
  driver: 'file',
  filename: `@DIR@/${name}`,
  ...more,
});
const qcow2 = (more: object = {}): object => ({
  driver: 'qcow2',
  'node-name': 'q',
  file: file('a.qcow2'),
  ...more,
});

const badArguments: Case[] = [
  ask('blockdev-snapshot-internal-sync'),
  ask('blockdev-snapshot-internal-sync', {}),
  ask('blockdev-snapshot-internal-sync', { device: 'q' }),
  ask('blockdev-snapshot-internal-sync', { name: 'q' }),
  ask('blockdev-snapshot-internal-sync', { device: 5, name: 'q' }),
  ask('blockdev-snapshot-internal-sync', { device: 'q', name: null }),
  ask('blockdev-snapshot-internal-sync', { device: 'q', name: 'one', bogus: 1 }),
  ask('blockdev-snapshot-internal-sync', { device: 'q', name: 'one' }),
  ask('blockdev-snapshot-delete-internal-sync'),
  ask('blockdev-snapshot-delete-internal-sync', {}),
  ask('blockdev-snapshot-delete-internal-sync', { device: 'q' }),
  ask('blockdev-snapshot-delete-internal-sync', { device: 'q', id: 5 }),
  ask('blockdev-snapshot-delete-internal-sync', { device: 'q', id: '5', name: false }),
];

const internal: Case[] = [
  scene(
    'taken and deleted',
    node(qcow2()),
    take(''),
    take('one'),
    take('one'),
    take('two'),
    take('3'),
    drop({}),
    drop({ id: 'one' }),
    drop({ name: '1' }),
    drop({ id: '1', name: 'two' }),
    drop({ id: '1', name: 'one' }),
    take('four'),
    drop({ name: 'four' }),
    drop({ id: '3' }),
    drop({ id: '3' }),
    drop({ id: '', name: '' }),
    drop({ name: 'two' }),
    take('five'),
    drop({ id: '1' }),
    del('q'),
  ),
  scene(
    'names that are long or odd',
    node(qcow2()),
    take('n'.repeat(255)),
    take('n'.repeat(256)),
    drop({ name: 'n'.repeat(256) }),
    drop({ name: 'n'.repeat(255) }),
    take('m'.repeat(300)),
    drop({ name: 'm'.repeat(300) }),
    drop({ name: 'm'.repeat(255) }),
    take('käse 乾酪 🧀'),
    drop({ name: 'käse 乾酪 🧀' }),
    del('q'),
  ),
  scene(
    'of nodes that are not theirs',
    node({ driver: 'null-co', 'node-name': 'n' }),
    node(file('a.raw', { 'node-name': 'f' })),
    node(qcow2({ 'read-only': true })),
    take('one', 'n'),
    take('one', 'f'),
    take('one', 'q'),
    take('one', 'nope'),
    take('one', ''),
    drop({ name: 'one' }, 'n'),
    drop({ name: 'one' }, 'f'),
    drop({ name: 'one' }, 'q'),
    drop({ name: 'one' }, 'nope'),
    del('n'),
    del('f'),
    del('q'),
  ),
  scene(
    'through raw',
    node(qcow2()),
    node({ driver: 'raw', 'node-name': 'r', file: 'q' }),
    take('one', 'q'),
    drop({ name: 'one' }, 'q'),
    take('one', 'r'),
    take('one', 'r'),
    drop({ name: 'two' }, 'r'),
    drop({ name: 'one' }, 'r'),
    del('r'),
    del('q'),
  ),
  scene(
    'of a backing file',
    node(qcow2()),
    node(qcow2({ 'node-name': 'top', file: file('b.qcow2'), backing: 'q' })),
    take('one', 'q'),
    drop({ name: 'one' }, 'q'),
    take('one', 'top'),
    drop({ name: 'one' }, 'top'),
    del('top'),
    del('q'),
  ),
];

export const snapshots: Area = {
  name: 'snapshots',
  groups: [
    {
      name: 'snapshots',
      files: [
        { name: 'a.qcow2', qcow2: { data: [1, 2, 3] } },
        { name: 'b.qcow2', qcow2: {} },
        { name: 'a.raw', length: 1024 * 1024 },
      ],
      cases: [...badArguments, ...internal],
    },
  ],
};
