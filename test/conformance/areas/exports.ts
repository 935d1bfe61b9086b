// nbd-server-* and block-export-*: arguments, life cycle, order of events.

import { type Area, ask, type Case, type CommandPair, scene } from '../case.ts';
import { go, hello, NBD_FLAGS, nbd } from '../wire-steps.ts';
import { exportArguments, legacyArguments, removalArguments } from './exports/arguments.ts';
import { startArguments, startLife } from './exports/server.ts';
import { add, long, unix } from './exports/steps.ts';

const nbdExport = (more: object = {}): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': 'n', ...more },
];
const del = (args: object): CommandPair => ['block-export-del', args];

const nodes = [
  '--blockdev',
  'null-co,node-name=n,size=1048576,read-zeroes=on',
  '--blockdev',
  'null-co,node-name=ro,size=1048576,read-only=on',
  '--blockdev',
  'file,node-name=f,filename=@DIR@/a.img',
  '--blockdev',
  'raw,node-name=r,file=f',
];
const server = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];
const files = [{ name: 'a.img', length: 1048576 }];

const life: Case[] = [
  scene(
    'add and remove',
    nbdExport(),
    'query-block-exports',
    del({ id: 'e' }),
    'query-block-exports',
  ),
  scene('same id', nbdExport(), nbdExport(), nbdExport({ 'node-name': 'f' }), del({ id: 'e' })),
  scene(
    'same NBD name',
    nbdExport(),
    nbdExport({ id: 'e2' }),
    nbdExport({ id: 'e2', 'node-name': 'f', name: 'n' }),
    del({ id: 'e' }),
  ),
  scene(
    'id tests come before the node',
    nbdExport(),
    nbdExport({ 'node-name': 'nope' }),
    del({ id: 'e' }),
  ),
  scene(
    'newest first',
    nbdExport({ id: 'a', name: 'a' }),
    nbdExport({ id: 'b', name: 'b', writable: true }),
    nbdExport({ id: 'c', name: '', 'node-name': 'f', writable: true }),
    'query-block-exports',
    del({ id: 'b' }),
    'query-block-exports',
    del({ id: 'a', mode: 'hard' }),
    del({ id: 'c', mode: 'safe' }),
  ),
  scene(
    'ids of all sorts',
    ...['e.2-x_y', 'A', 'a'.repeat(500)].flatMap((id) => [nbdExport({ id }), del({ id })]),
  ),
  scene(
    'names of all sorts',
    ...['', 'täst ü', 'a b', '/', long(4096)].flatMap((name) => [
      nbdExport({ name }),
      del({ id: 'e' }),
    ]),
  ),
  scene('description of 4096 bytes', nbdExport({ description: long(4096) }), del({ id: 'e' })),
  scene('no bitmaps', nbdExport({ bitmaps: [] }), del({ id: 'e' })),
  scene('allocation depth', nbdExport({ 'allocation-depth': true }), del({ id: 'e' })),
  scene('writethrough', nbdExport({ writable: true, writethrough: true }), del({ id: 'e' })),
  scene(
    'two writers of one node',
    nbdExport({ writable: true }),
    nbdExport({ id: 'e2', name: '2', writable: true }),
    del({ id: 'e' }),
    del({ id: 'e2' }),
  ),
  scene('node in use', nbdExport(), ['blockdev-del', { 'node-name': 'n' }], del({ id: 'e' })),
  scene(
    'node and its child in use',
    nbdExport({ 'node-name': 'r' }),
    ['blockdev-del', { 'node-name': 'r' }],
    ['blockdev-del', { 'node-name': 'f' }],
    del({ id: 'e' }),
  ),
  scene(
    'legacy default name',
    ['nbd-server-add', { device: 'n' }],
    ['nbd-server-add', { device: 'n' }],
    'query-block-exports',
    ['nbd-server-remove', { name: 'n' }],
  ),
  scene(
    'legacy with name and description',
    ['nbd-server-add', { device: 'n', name: 'legacy', description: 'd', writable: true }],
    'query-block-exports',
    ['nbd-server-remove', { name: 'legacy', mode: 'hard' }],
  ),
  scene(
    'legacy makes a writable export of a read-only node read-only',
    ['nbd-server-add', { device: 'ro', writable: true }],
    'query-block-exports',
    ['nbd-server-remove', { name: 'ro' }],
  ),
  scene(
    'legacy removal takes the id',
    nbdExport({ name: 'other' }),
    ['nbd-server-remove', { name: 'other' }],
    ['nbd-server-remove', { name: 'e' }],
  ),
];

const withClients: Case[] = [
  scene(
    'safe removal with a client',
    nbdExport(),
    nbd(hello('c', NBD_FLAGS), go('c', 'n')),
    del({ id: 'e' }),
    'query-block-exports',
    del({ id: 'e', mode: 'safe' }),
    del({ id: 'e', mode: 'hard' }),
    { do: 'event', name: 'BLOCK_EXPORT_DELETED', on: 'main' },
    { do: 'bytes', on: 'c', bytes: new Uint8Array(), hears: 'the end' },
    'query-block-exports',
  ),
  scene(
    'stop with a client in transmission',
    nbdExport({ id: 'e1', name: '1' }),
    nbdExport({ id: 'e2', name: '2' }),
    nbd(hello('c', NBD_FLAGS), go('c', '1')),
    'nbd-server-stop',
    { do: 'bytes', on: 'c', bytes: new Uint8Array(), hears: 'the end' },
    'query-block-exports',
    ['nbd-server-start', { addr: unix() }],
    'query-block-exports',
  ),
  scene(
    'a client that did not choose an export does not count',
    nbdExport(),
    hello('c', NBD_FLAGS),
    del({ id: 'e' }),
  ),
  scene(
    'removal after the client left',
    nbdExport(),
    nbd(hello('c', NBD_FLAGS), go('c', 'n')),
    { do: 'requests', on: 'c', requests: [{ type: 2 }] },
    del({ id: 'e' }),
  ),
];

export const exports: Area = {
  name: 'exports',
  groups: [
    {
      name: 'nbd-server-start',
      arguments: ['--object', 'secret,id=sec0,data=x'],
      cases: startArguments,
    },
    { name: 'nbd server', cases: startLife },
    {
      name: 'without server',
      arguments: nodes,
      files,
      cases: [
        add({ type: 'nbd', id: 'e', 'node-name': 'n' }),
        add({ type: 'nbd', id: 'e', 'node-name': 'nope' }),
        add({ type: 'nbd', id: '1', 'node-name': 'n' }),
        ask('nbd-server-add', { device: 'n' }),
        ask('nbd-server-add', { device: 'nope' }),
        ask('nbd-server-remove', { name: 'n' }),
        ask('block-export-del', { id: 'n' }),
      ],
    },
    { name: 'block-export-add', arguments: [...nodes, ...server], files, cases: exportArguments },
    { name: 'nbd-server-add', arguments: [...nodes, ...server], files, cases: legacyArguments },
    { name: 'block-export-del', arguments: [...nodes, ...server], files, cases: removalArguments },
    { name: 'export life', arguments: [...nodes, ...server], files, cases: life },
    {
      name: 'exports and clients',
      arguments: [...nodes, ...server],
      files,
      cases: withClients,
      stderr: false,
    },
    {
      name: 'nbd-server-stop during a handshake',
      patienceMs: 2500,
      arguments: [...nodes, ...server],
      files,
      stderr: false,
      cases: [
        scene('answers', nbdExport(), hello('c', NBD_FLAGS), 'nbd-server-stop', {
          do: 'bytes',
          on: 'c',
          bytes: new Uint8Array(),
          hears: 'the end',
        }),
      ],
    },
  ],
};
