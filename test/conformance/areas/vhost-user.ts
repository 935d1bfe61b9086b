// vhost-user-blk exports: arguments and life cycle, as far as monitor and command line show them. What a frontend sees is in
// test/protocol/vhost-user.

import {
  type Area,
  ask,
  type Case,
  type CommandLineCase,
  type CommandPair,
  type Step,
  scene,
} from '../case.ts';

const unix = (file = 'v.sock'): object => ({ type: 'unix', path: `@DIR@/${file}` });
const device = (more: object = {}): object => ({
  type: 'vhost-user-blk',
  id: 'v',
  'node-name': 'n',
  addr: unix(),
  ...more,
});
const refused = (more: object): Case => ask('block-export-add', device(more));
/** Removed again, so that a success does not reach the next case. */
const accepted = (more: object): Case =>
  scene(`add and remove ${JSON.stringify(more)}`, add(more), del());
const add = (more: object = {}): CommandPair => ['block-export-add', device(more)];
const del = (more: object = {}): CommandPair => ['block-export-del', { id: 'v', ...more }];
const stat = (file: string): Step => ({ do: 'stat', file });

const nodes = [
  '--blockdev',
  'null-co,node-name=n,size=1048576,read-zeroes=on',
  '--blockdev',
  'null-co,node-name=ro,size=1048576,read-only=on',
];

const addArguments: Case[] = [
  ask('block-export-add', { type: 'vhost-user-blk' }),
  ask('block-export-add', { type: 'vhost-user-blk', id: 'v', 'node-name': 'n' }),
  refused({ addr: 5 }),
  refused({ addr: {} }),
  refused({ addr: { type: 'unix' } }),
  refused({ addr: { type: 'unix', path: 5 } }),
  refused({ addr: { type: 'unix', data: { path: 'x' } } }),
  refused({ addr: { type: 'inet', host: '127.0.0.1', port: '0' } }),
  refused({ addr: { type: 'inet', host: 'nowhere.invalid', port: '0' } }),
  refused({ addr: { type: 'vsock', cid: '1', port: '1' } }),
  refused({ addr: { type: 'fd', str: '99' } }),
  refused({ addr: { type: 'fd', str: 'name' } }),
  refused({ addr: { type: 'fd', str: '' } }),
  refused({ addr: { type: 'unix', path: '/nonexistent/v.sock' } }),
  refused({ addr: { type: 'unix', path: `/${'x'.repeat(108)}` } }),
  ...[1, 256, 511, 513, 1000, 4194304, 2097153, '512', 512.5, null].map((size) =>
    refused({ 'logical-block-size': size }),
  ),
  ...[0, -1, 65536, '1', 1.5, null].map((count) => refused({ 'num-queues': count })),
  refused({ 'num-queues': 0, 'logical-block-size': 1000 }),
  refused({ 'num-queues': 0, addr: { type: 'inet', host: '127.0.0.1', port: '0' } }),
  refused({ id: '1', 'num-queues': 0 }),
  refused({ 'node-name': 'nope', 'num-queues': 0 }),
  refused({ 'node-name': 'ro', writable: true }),
  refused({ writable: 'on' }),
  refused({ name: 'x' }),
  refused({ bogus: 1 }),
];

const life: Case[] = [
  accepted({}),
  accepted({ 'logical-block-size': 4096, 'num-queues': 8, writable: true, writethrough: true }),
  accepted({ 'logical-block-size': 2097152, 'num-queues': 65535 }),
  accepted({ 'node-name': 'ro' }),
  accepted({ addr: { type: 'unix', path: '@DIR@/abstract', abstract: true } }),
  scene(
    'is listed, has a socket, and is gone without it',
    add(),
    'query-block-exports',
    stat('v.sock'),
    del(),
    'query-block-exports',
    stat('v.sock'),
  ),
  scene('id in use', add(), add({ addr: unix('w.sock') }), stat('w.sock'), del(), del()),
  scene('replaces a stale socket', add(), add({ id: 'w' }), del(), del({ id: 'w' })),
  scene('node in use', add(), ['blockdev-del', { 'node-name': 'n' }], del({ mode: 'hard' })),
  scene(
    'two of one node, both writable',
    add({ writable: true }),
    add({ id: 'w', addr: unix('w.sock'), writable: true }),
    'query-block-exports',
    del({ id: 'w' }),
    del(),
  ),
  scene(
    'stays when the NBD server stops, and is no NBD export',
    ['nbd-server-start', { addr: { type: 'unix', data: { path: '@DIR@/nbd.sock' } } }],
    add(),
    ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
    ['nbd-server-remove', { name: 'v' }],
    'nbd-server-stop',
    'query-block-exports',
    del(),
  ),
];

const quit = '{"execute":"qmp_capabilities"}{"execute":"query-block-exports"}{"execute":"quit"}';
const monitor = ['--chardev', 'stdio,id=qmp', '--monitor', 'qmp'];
const option = (text: string): CommandLineCase => ({
  id: text,
  arguments: [...nodes, '--export', text, ...monitor],
  stdin: quit,
});
const socket = 'addr.type=unix,addr.path=@DIR@/v.sock';

export const vhostUser: Area = {
  name: 'vhost-user',
  groups: [
    { name: 'block-export-add', arguments: nodes, cases: addArguments },
    { name: 'life', arguments: nodes, cases: life },
  ],
  commandLines: [
    option(`vhost-user-blk,id=v,node-name=n,${socket}`),
    option(`type=vhost-user-blk,id=v,node-name=n,${socket},writable=on,num-queues=2`),
    option(`vhost-user-blk,id=v,node-name=n,${socket},logical-block-size=4k`),
    option(`vhost-user-blk,id=v,node-name=n,${socket},logical-block-size=1000`),
    option(`vhost-user-blk,id=v,node-name=n,${socket},num-queues=0`),
    option(`vhost-user-blk,id=v,node-name=n,${socket},num-queues=x`),
    option(`vhost-user-blk,id=v,node-name=ro,${socket},writable=on`),
    option('vhost-user-blk,id=v,node-name=n'),
    option('vhost-user-blk,id=v,node-name=n,addr.path=@DIR@/v.sock'),
    option('vhost-user-blk,id=v,node-name=n,addr.type=unix'),
    option('vhost-user-blk,id=v,node-name=n,addr.type=inet,addr.host=127.0.0.1,addr.port=0'),
    option('vhost-user-blk,id=v,node-name=n,addr.type=fd,addr.str=99'),
    option('vhost-user-blk,id=v,node-name=n,addr.type=fd,addr.str=x'),
    option(
      '{"type":"vhost-user-blk","id":"v","node-name":"n","addr":{"type":"unix","path":"@DIR@/v.sock"}}',
    ),
  ],
};
