// The nbd driver: its options and their errors, what is told of such nodes, reopening and resizing them, and what is seen
// through them.

import { type Area, ask, type Case, type CommandPair, type Step, scene } from '../case.ts';
import { KIB, MIB } from '../sizes.ts';
import {
  enter,
  FAST_ZERO,
  FUA,
  leave,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NO_HOLE,
  REQ_ONE,
  requests,
} from '../wire-steps.ts';

const unix = { type: 'unix', path: '@DIR@/peer.sock' };
const nbd = (more: object = {}): object => ({
  driver: 'nbd',
  'node-name': 'n',
  server: unix,
  export: 'rw',
  ...more,
});
const add = (more: object = {}): CommandPair => ['blockdev-add', nbd(more)];
const tried = (more: object = {}): Case => ask('blockdev-add', nbd(more));
const del = (name = 'n'): CommandPair => ['blockdev-del', { 'node-name': name }];
const again = (...options: object[]): CommandPair => ['blockdev-reopen', { options }];
const query: CommandPair = ['query-named-block-nodes', { flat: true }];
const resize = (size: number, name = 'n'): CommandPair => [
  'block_resize',
  { 'node-name': name, size },
];
const shown = (id: string, more: object): Case => scene(id, add(more), query, del());

const refused: Case[] = [
  ask('blockdev-add', { driver: 'nbd' }),
  ask('blockdev-add', { driver: 'nbd', 'node-name': 'n' }),
  ask('blockdev-add', { driver: 'nbd', server: unix }),
  ...[{}, [], null, 5, 'x', true].map((server) => tried({ server })),
  ...[
    { type: 'nope' },
    { type: 5 },
    { type: 'unix' },
    { type: 'unix', path: 5 },
    { type: 'unix', path: '' },
    { type: 'unix', path: '@DIR@/none.sock' },
    { type: 'unix', path: '@DIR@/disk.img' },
    { type: 'unix', path: '@DIR@' },
    { type: 'unix', path: `/${'x'.repeat(110)}` },
    { type: 'unix', path: 'none', abstract: true },
    { type: 'unix', path: 'none', abstract: true, tight: false },
    { type: 'inet' },
    { type: 'inet', host: 'localhost' },
    { type: 'inet', port: '1' },
    { type: 'inet', host: 5, port: '1' },
    { type: 'inet', host: '127.0.0.1', port: 1 },
    { type: 'inet', host: '127.0.0.1', port: '1' },
    { type: 'inet', host: '', port: '1' },
    { type: 'inet', host: '127.0.0.1', port: 'nope' },
    { type: 'inet', host: '127.0.0.1', port: '1', ipv4: false, ipv6: false },
    { type: 'inet', host: '127.0.0.1', port: '1', ipv4: false },
    { type: 'vsock', cid: 'x', port: '1' },
    { type: 'vsock', cid: '1', port: 'x' },
    { type: 'vsock', cid: '1' },
    { type: 'fd', str: '3' },
    { type: 'fd', str: 'x' },
    { type: 'fd' },
    { type: 'unix', data: { path: '@DIR@/peer.sock' } },
  ].map((server) => tried({ server })),
  ...[5, null, true, {}].map((name) => tried({ export: name })),
  ...['none', '', 'RW', 'rw ', 'x'.repeat(4096)].map((name) => tried({ export: name })),
  scene('an export name that is too long', add({ export: 'x'.repeat(4097) })),
  scene('a bitmap name that is too long', add({ 'x-dirty-bitmap': 'x'.repeat(4097) })),
  ...[
    '',
    'x',
    'qemu:',
    'qemu:dirty-bitmap:',
    'qemu:dirty-bitmap:none',
    'qemu:allocation-depth',
  ].map((name) => tried({ 'x-dirty-bitmap': name })),
  ...[-1, 2 ** 32, 1.5, '5', null].map((value) => tried({ 'reconnect-delay': value })),
  ...[-1, 2 ** 32, 1.5, '5', null].map((value) => tried({ 'open-timeout': value })),
  ...['none', '', 'secret', 'server'].map((id) => tried({ 'tls-creds': id })),
  tried({ 'tls-creds': 5 }),
  tried({ 'tls-hostname': 5 }),
  tried({ 'tls-creds': 'client' }),
  tried({ 'tls-creds': 'client', 'tls-hostname': 'localhost' }),
  tried({ host: '127.0.0.1' }),
  tried({ path: '@DIR@/peer.sock' }),
  tried({ cache: {} }),
  tried({ filename: 'nbd://x' }),
  tried({ export: 'ro' }),
  tried({ export: 'ro', 'read-only': false }),
  tried({ 'force-share': true }),
  tried({ 'detect-zeroes': 'unmap' }),
];

const told: Case[] = [
  shown('plain', {}),
  shown('without an export name', { export: undefined }),
  shown('the empty export name', { export: '' }),
  shown('with timeouts', { 'reconnect-delay': 1, 'open-timeout': 1 }),
  shown('with a host name for TLS', { 'tls-hostname': 'somewhere' }),
  shown('abstract: false', { server: { ...unix, abstract: false, tight: true } }),
  shown('read-only', { 'read-only': true }),
  shown('a read-only export, read-only', { export: 'ro', 'read-only': true }),
  shown('a read-only export, auto-read-only', { export: 'ro', 'auto-read-only': true }),
  shown('cache and discard', { cache: { direct: true, 'no-flush': true }, discard: 'unmap' }),
  shown('an export that is not whole sectors', { export: 'odd' }),
  shown('a depth', { export: 'depth', 'x-dirty-bitmap': 'qemu:allocation-depth' }),
  shown('a name that needs quoting', { export: 'a b/c?d=%&"#' }),
  shown('a long name', { export: 'y'.repeat(4000) }),
  scene(
    'below a raw node',
    [
      'blockdev-add',
      { driver: 'raw', 'node-name': 'r', file: { driver: 'nbd', server: unix, export: 'rw' } },
    ],
    query,
    ['x-debug-query-block-graph', {}],
    del('r'),
  ),
  scene(
    'below a raw node with an offset',
    add(),
    ['blockdev-add', { driver: 'raw', 'node-name': 'r', file: 'n', offset: 512, size: 1024 }],
    query,
    del('n'),
    del('r'),
    del('n'),
  ),
  scene(
    'below a qcow2 node',
    [
      'blockdev-add',
      { driver: 'qcow2', 'node-name': 'q', file: { driver: 'nbd', server: unix, export: 'rw' } },
    ],
    query,
  ),
  scene('two of one export', add(), add({ 'node-name': 'm' }), del('m'), del()),
  scene(
    'used by an export',
    add(),
    ['block-export-add', exported('e', 'n')],
    del(),
    ['block-export-del', { id: 'e' }],
    del(),
  ),
  scene('statistics', add(), ['query-blockstats', { 'query-nodes': true }], del()),
];

const changes: Case[] = [
  scene(
    'reopened',
    add(),
    again(nbd()),
    again(nbd({ 'read-only': true })),
    query,
    again(nbd()),
    again(nbd({ 'auto-read-only': true })),
    again(nbd({ cache: { direct: true } })),
    again(nbd({ discard: 'unmap', 'detect-zeroes': 'unmap' })),
    query,
    again(nbd({ export: 'ro' })),
    again(nbd({ export: undefined })),
    again(nbd({ server: { type: 'unix', path: '@DIR@/other.sock' } })),
    again(nbd({ server: { ...unix, abstract: false } })),
    again(nbd({ 'reconnect-delay': 5 })),
    again(nbd({ 'open-timeout': 5 })),
    again(nbd({ 'tls-creds': 'client' })),
    again(nbd({ 'tls-hostname': 'x' })),
    again(nbd({ 'x-dirty-bitmap': 'x' })),
    again(nbd({ driver: 'raw', file: 'n' })),
    del(),
  ),
  scene(
    'a read-only export reopened',
    add({ export: 'ro', 'read-only': true }),
    again(nbd({ export: 'ro' })),
    again(nbd({ export: 'ro', 'auto-read-only': true })),
    again(nbd({ export: 'ro', 'read-only': true })),
    again(nbd({ export: 'ro', 'read-only': true, 'auto-read-only': true })),
    query,
    del(),
  ),
  scene(
    'resized',
    add(),
    ...[0, 512, MIB - 1, MIB, MIB + 1, 2 * MIB].map((size) => resize(size)),
    query,
    del(),
  ),
  scene('a read-only node resized', add({ 'read-only': true }), resize(MIB), del()),
];

const end: readonly (Step | CommandPair)[] = [
  leave,
  ['block-export-del', { id: 'e', mode: 'hard' }],
  del(),
];

const wholeStatus = requests({ type: NBD_CMD_BLOCK_STATUS, offset: 0, length: MIB });

const seen: Case[] = [
  scene(
    'reads, writes and status',
    add({ discard: 'unmap' }),
    ['block-export-add', exported('e', 'n')],
    ...enter('extents', 'n'),
    wholeStatus,
    requests({ type: NBD_CMD_BLOCK_STATUS, offset: 0, length: MIB, flags: REQ_ONE }),
    requests({ type: NBD_CMD_READ, offset: 65_530, length: 20 }),
    requests({ type: NBD_CMD_WRITE, offset: 3, payload: Buffer.from('written') }),
    requests({ type: NBD_CMD_WRITE, offset: 100, payload: Buffer.from('fua'), flags: FUA }),
    requests({ type: NBD_CMD_READ, offset: 0, length: 110 }),
    ...[0, NO_HOLE, FAST_ZERO, FUA | NO_HOLE].map((flags, index) =>
      requests({
        type: NBD_CMD_WRITE_ZEROES,
        offset: (2 + index) * 64 * KIB,
        length: 4 * KIB,
        flags,
      }),
    ),
    requests({ type: NBD_CMD_TRIM, offset: 4 * KIB, length: 4 * KIB }),
    requests({ type: NBD_CMD_FLUSH }),
    wholeStatus,
    requests({ type: NBD_CMD_READ, offset: MIB - 10, length: 20 }),
    ...end,
    { do: 'inspect', file: 'disk.img' },
  ),
  scene(
    'the end of an export that is not whole sectors',
    add({ export: 'odd' }),
    ['block-export-add', exported('e', 'n')],
    ...enter('extents', 'n'),
    requests({ type: NBD_CMD_BLOCK_STATUS, offset: 0, length: KIB }),
    requests({ type: NBD_CMD_READ, offset: 990, length: 34 }),
    requests({ type: NBD_CMD_WRITE, offset: 990, payload: Buffer.alloc(10, 7) }),
    requests({ type: NBD_CMD_WRITE, offset: 995, payload: Buffer.alloc(10, 7) }),
    requests({ type: NBD_CMD_READ, offset: 980, length: 44 }),
    ...end,
  ),
  ...['base:allocation', 'qemu:allocation-depth'].map((context) =>
    scene(
      `the status of ${context}`,
      add({ export: 'depth', 'x-dirty-bitmap': context, 'read-only': true }),
      ['block-export-add', { ...exported('e', 'n'), writable: false }],
      ...enter('extents', 'n'),
      wholeStatus,
      ...end,
    ),
  ),
];

function exported(id: string, node: string): object {
  return { type: 'nbd', id, 'node-name': node, name: node, writable: true };
}

const files = [
  { name: 'disk.img', length: MIB, fill: [[64 * KIB, 64 * KIB, 0xa5]] },
  { name: 'odd.img', length: 1000 },
] as const;

const peer = [
  '--blockdev',
  'file,node-name=f,filename=@DIR@/disk.img,discard=unmap',
  '--blockdev',
  'raw,node-name=r,file=f,discard=unmap',
  '--blockdev',
  'file,node-name=o,filename=@DIR@/odd.img',
  '--nbd-server',
  'addr.type=unix,addr.path=@DIR@/peer.sock,max-connections=0',
  '--export',
  'nbd,id=e1,node-name=r,name=rw,writable=on',
  '--export',
  'nbd,id=e2,node-name=r,name=ro',
  '--export',
  'nbd,id=e3,node-name=r,name=,writable=on',
  '--export',
  'nbd,id=e4,node-name=o,name=odd,writable=on',
  '--export',
  'nbd,id=e5,node-name=r,name=depth,allocation-depth=on,writable=on',
  '--export',
  'nbd,id=e6,node-name=r,name=a b/c?d=%&"#,writable=on',
  '--export',
  `nbd,id=e7,node-name=r,name=${'y'.repeat(4000)},writable=on`,
];

const objects = [
  '--object',
  'secret,id=secret,data=x',
  '--object',
  'tls-creds-anon,id=server,endpoint=server',
  '--object',
  'tls-creds-anon,id=client,endpoint=client',
];

export const nbdClient: Area = {
  name: 'nbd-client',
  groups: [
    { name: 'refused', files, peer, arguments: objects, cases: refused },
    { name: 'told', files, peer, arguments: [...objects, ...serving('told')], cases: told },
    { name: 'changes', files, peer, arguments: objects, cases: changes },
    { name: 'seen', files, peer, arguments: serving('nbd'), cases: seen },
  ],
  commandLines: [
    ['--blockdev', 'nbd,node-name=n'],
    ['--blockdev', 'nbd,node-name=n,server.type=unix,server.path=@DIR@/none.sock'],
    ['--blockdev', 'nbd,node-name=n,server.type=fd,server.str=99'],
    ['--blockdev', 'nbd,node-name=n,server.type=fd,server.str=x'],
    ['--blockdev', 'nbd,node-name=n,server.type=unix,server.path=x,reconnect-delay=x'],
    ['--blockdev', 'nbd,node-name=n,server.type=unix,server.path=x,reconnect-delay=4294967296'],
    ['--blockdev', 'nbd,node-name=n,server=x'],
    ['--blockdev', 'nbd,node-name=n,host=x,port=1'],
  ].map((args) => ({ id: args.join(' '), arguments: args })),
};

function serving(name: string): string[] {
  return ['--nbd-server', `addr.type=unix,addr.path=@DIR@/${name}.sock`];
}
