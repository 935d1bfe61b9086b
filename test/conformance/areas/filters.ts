// Filter drivers and what they need: options, permissions, errors, how they are shown, what a client sees through them.

import {
  type Area,
  ask,
  type Case,
  type CommandPair,
  type FileSetup,
  scene,
  verbatim,
} from '../case.ts';
import { NBD_CMD_READ, transmission } from '../wire-steps.ts';

const MIB = 1024 * 1024;

const node = (options: object): CommandPair => ['blockdev-add', options];
const del = (name: string): CommandPair => ['blockdev-del', { 'node-name': name }];
const again = (...options: unknown[]): CommandPair => ['blockdev-reopen', { options }];
const query: CommandPair = ['query-named-block-nodes', {}];
const stats: CommandPair = ['query-blockstats', { 'query-nodes': true }];
const graph: CommandPair = ['x-debug-query-block-graph', {}];
const nbdExport = (name: string, writable = true): CommandPair => [
  'block-export-add',
  { type: 'nbd', id: 'e', 'node-name': name, writable },
];
const removeExport: CommandPair = ['block-export-del', { id: 'e', mode: 'hard' }];
const object = (options: object): CommandPair => ['object-add', options];
const delObject = (id: string): CommandPair => ['object-del', { id }];
const get = (path: string, property: string): CommandPair => ['qom-get', { path, property }];
const set = (path: string, property: string, value: unknown): CommandPair => [
  'qom-set',
  { path, property, value },
];

const file = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 'f',
  filename: '@DIR@/a.img',
  ...more,
});
const inline = (more: object = {}): object => ({
  driver: 'file',
  filename: '@DIR@/a.img',
  ...more,
});
const nul = (more: object = {}): object => ({
  driver: 'null-co',
  'node-name': 'n',
  size: MIB,
  ...more,
});

/** Tries to add a node over `f`, shows it, and takes it away. */
const tryNode = (driver: string, more: object): Case => {
  const options = { driver, 'node-name': 'x', ...more };
  return {
    id: ask('blockdev-add', options).id,
    steps: scene('', node(file()), node(options), query, graph, del('x'), del('f')).steps,
  };
};

/** What every filter with one child `file` is asked, options of its own added. */
const common = (driver: string, own: object = {}): Case[] => {
  const top = (more: object = {}): object => ({
    driver,
    'node-name': 'x',
    file: 'f',
    ...own,
    ...more,
  });
  return [
    ask('blockdev-add', { driver, 'node-name': 'x', ...own }),
    tryNode(driver, { ...own, file: 'nope' }),
    tryNode(driver, { ...own, file: null }),
    tryNode(driver, { ...own, file: 'f', bogus: 1 }),
    tryNode(driver, { ...own, file: 'f', cache: {} }),
    tryNode(driver, { ...own, file: 'f' }),
    tryNode(driver, { ...own, file: 'f', 'read-only': true }),
    tryNode(driver, { ...own, file: 'f', 'detect-zeroes': 'unmap' }),
    scene(
      `${driver}: shown and counted`,
      node(file({ filename: '@DIR@/b.img' })),
      node(top({ cache: { direct: false, 'no-flush': true } })),
      query,
      stats,
      graph,
      del('f'),
      del('x'),
      del('f'),
    ),
    scene(
      `${driver}: over an inline node`,
      node(top({ file: inline({ 'node-name': 'own' }), 'read-only': true })),
      query,
      graph,
      del('own'),
      del('x'),
      query,
    ),
    scene(
      `${driver}: exported`,
      node(file()),
      node(top()),
      nbdExport('x'),
      graph,
      ['blockdev-add', { driver: 'raw', 'node-name': 'r', file: 'f' }],
      nbdExport('f'),
      removeExport,
      del('r'),
      del('x'),
      del('f'),
    ),
    scene(
      `${driver}: a read-only node below`,
      node(file({ 'read-only': true })),
      node(top()),
      query,
      nbdExport('x'),
      nbdExport('x', false),
      graph,
      removeExport,
      del('x'),
      node(top({ 'read-only': true })),
      nbdExport('x'),
      del('x'),
      del('f'),
    ),
    scene(
      `${driver}: resized`,
      node(nul()),
      node(file({ filename: '@DIR@/b.img' })),
      node(top()),
      ['block_resize', { 'node-name': 'x', size: MIB }],
      query,
      ['block_resize', { 'node-name': 'x', size: MIB / 2 + 512 }],
      query,
      ['block_resize', { 'node-name': 'f', size: 3 * MIB }],
      query,
      ['block_resize', { 'node-name': 'x', size: -1 }],
      del('x'),
      ['block_resize', { 'node-name': 'f', size: MIB }],
      node(top({ file: 'n' })),
      ['block_resize', { 'node-name': 'x', size: 2 * MIB }],
      del('x'),
      del('f'),
      del('n'),
    ),
    scene(
      `${driver}: reopened`,
      node(nul()),
      node(file()),
      node(top()),
      again(top()),
      query,
      again(top({ 'read-only': true })),
      query,
      again(top({ 'detect-zeroes': 'on' })),
      again(top({ file: 'n' })),
      query,
      graph,
      again(top({ file: 'f' })),
      again(top({ file: 'nope' })),
      again(top({ file: inline() })),
      again(top({ bogus: 1 })),
      again({ driver, 'node-name': 'x' }),
      again({ driver: 'raw', 'node-name': 'x', file: 'f' }),
      again(nul(), top()),
      query,
      del('x'),
      del('f'),
      del('n'),
    ),
    scene(
      `${driver}: in the chain of a bitmap and of itself`,
      node(nul()),
      node(top({ file: 'n' })),
      ['block-dirty-bitmap-add', { node: 'x', name: 'b' }],
      node({ ...top({ file: 'x' }), 'node-name': 'y' }),
      query,
      graph,
      del('x'),
      del('y'),
      ['block-dirty-bitmap-remove', { node: 'x', name: 'b' }],
      del('x'),
      del('n'),
    ),
  ];
};

const group = (more: object = {}): object => ({ 'qom-type': 'throttle-group', id: 'g', ...more });
const tryGroup = (more: object): Case => ({
  id: ask('object-add', group(more)).id,
  steps: scene('', object(group(more)), get('g', 'limits'), delObject('g')).steps,
});
const limitCases: readonly object[] = [
  {},
  { 'iops-total': 100 },
  { 'iops-total': 0 },
  { 'iops-total': -1 },
  { 'iops-total': 1e15 },
  { 'iops-total': 1_000_000_000_000_001 },
  { 'iops-total': verbatim('1.0') },
  { 'iops-total': '5' },
  { 'iops-total': null },
  { 'iops-total': 1, 'iops-read': 1 },
  { 'iops-total': 1, 'bps-read': 1 },
  { 'bps-total': 1, 'bps-write': 1 },
  { 'bps-read': 1, 'bps-write': 1 },
  { 'bps-total': 1, 'bps-total-max': 1, 'bps-read': 2, 'bps-read-max': 3 },
  { 'bps-total': 10, 'bps-total-max': 20 },
  { 'bps-total': 10, 'bps-total-max': 5 },
  { 'bps-total': 10, 'bps-total-max': -5 },
  { 'bps-total-max': 5 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 30 },
  { 'bps-total': 10, 'bps-total-max-length': 30 },
  { 'bps-total': 10, 'bps-total-max-length': 1 },
  { 'bps-total': 10, 'bps-total-max-length': 0 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': -1 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 4_294_967_295 },
  { 'bps-total': 10, 'bps-total-max': 20, 'bps-total-max-length': 4_294_967_296 },
  { 'bps-total': 10, 'bps-total-max': 1e15, 'bps-total-max-length': 2 },
  { 'iops-size': 4096 },
  { 'iops-size': 4096, 'iops-read': 5 },
  { 'iops-size': -1, 'iops-write': 5 },
  { bogus: 1 },
];

const throttleGroups: Case[] = [
  ...limitCases.map((limits) => tryGroup({ limits })),
  ...limitCases.map((limits) =>
    tryGroup(
      Object.fromEntries(Object.entries(limits).map(([name, value]) => [`x-${name}`, value])),
    ),
  ),
  ...[5, null, [], 'x'].map((limits) => tryGroup({ limits })),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-iops-total': 6 }),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-bps-total': 6 }),
  tryGroup({ limits: { 'iops-total': 5 }, 'x-iops-read': 6 }),
  tryGroup({ limits: { 'iops-total': 5, 'iops-total-max': 10 }, 'x-iops-total': 20 }),
  scene(
    'throttle-group as an object',
    object(group({ 'x-iops-total': 10 })),
    object(group({ 'x-iops-total': 10 })),
    ['qom-list', { path: '/objects/g' }],
    ['qom-list-properties', { typename: 'throttle-group' }],
    get('g', 'limits'),
    get('g', 'x-iops-total'),
    get('g', 'x-iops-total-max-length'),
    get('g', 'x-bps-write'),
    set('g', 'x-iops-total', 5),
    set('g', 'x-iops-total', 'no'),
    set('g', 'limits', 5),
    set('g', 'limits', {}),
    get('g', 'limits'),
    set('g', 'limits', { bogus: 5 }),
    set('g', 'limits', { 'iops-total': 'x' }),
    set('g', 'limits', { 'iops-read': 5 }),
    set('g', 'limits', { 'bps-read': 5 }),
    get('g', 'limits'),
    set('g', 'limits', { 'iops-total': 0, 'iops-read': 7 }),
    get('g', 'x-iops-read'),
    delObject('g'),
    delObject('g'),
  ),
  scene(
    'limits that are wrong, of an id that is taken',
    object(group()),
    object(group({ limits: { 'iops-total-max': 5 } })),
    object(group({ 'x-iops-total-max': 5 })),
    object(group({ 'x-iops-total': -5 })),
    object(group({ 'x-iops-total-max-length': 2 ** 32 })),
    delObject('g'),
  ),
];

const throttleNodes: Case[] = [
  ...common('throttle', { 'throttle-group': 'shared' }),
  tryNode('throttle', { file: 'f' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 'nope' }),
  tryNode('throttle', { file: 'f', 'throttle-group': '' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 'secret' }),
  tryNode('throttle', { file: 'f', 'throttle-group': 5 }),
  scene(
    'a throttle group in use',
    object(group()),
    object(group({ id: 'h' })),
    node(file()),
    node({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'g' }),
    delObject('g'),
    again({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'nope' }),
    again({ driver: 'throttle', 'node-name': 'x', file: 'f', 'throttle-group': 'h' }),
    query,
    delObject('h'),
    delObject('g'),
    del('x'),
    delObject('h'),
    del('f'),
  ),
];

const corNodes: Case[] = [
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

const preallocateNodes: Case[] = [
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

const debug = (more: object): Case => {
  const options = { driver: 'blkdebug', 'node-name': 'x', image: 'f', ...more };
  return {
    id: ask('blockdev-add', options).id,
    steps: scene('', node(file()), node(options), query, graph, again(options), del('x'), del('f'))
      .steps,
  };
};

const inject = (...rules: unknown[]): Case => debug({ 'inject-error': rules });
const change = (...rules: unknown[]): Case => debug({ 'set-state': rules });
const config = (text: string): Case =>
  scene(
    `blkdebug: config ${JSON.stringify(text)}`,
    { do: 'write file', file: 'rules', text },
    node(nul()),
    node({ driver: 'blkdebug', 'node-name': 'x', image: 'n', config: '@DIR@/rules' }),
    query,
    del('x'),
    del('n'),
  );

const blkdebugNodes: Case[] = [
  debug({}),
  ...[
    { align: 512 },
    { align: 4096 },
    { align: 3 },
    { align: -1 },
    { align: 0 },
    { align: 2 ** 31 },
    { align: 2 ** 30 },
    { 'max-transfer': 4096 },
    { 'max-transfer': 5 },
    { 'max-transfer': -512 },
    { 'max-transfer': 2 ** 31 },
    { align: 4096, 'max-transfer': 512 },
    { 'opt-write-zero': 4096, 'max-write-zero': 8192 },
    { 'opt-write-zero': 4096, 'max-write-zero': 512 },
    { 'opt-discard': 4096, 'max-discard': 8192 },
    { 'opt-discard': 4096, 'max-discard': 512 },
    { align: 4096, 'opt-write-zero': 512 },
    { align: 4096, 'opt-discard': 512 },
    { 'take-child-perms': [] },
    { 'take-child-perms': ['write'] },
    { 'take-child-perms': ['write', 'resize', 'consistent-read', 'write-unchanged'] },
    { 'take-child-perms': ['bogus'] },
    { 'take-child-perms': 'write' },
    { 'unshare-child-perms': ['write', 'resize'] },
    { 'unshare-child-perms': ['write'], 'take-child-perms': ['write'] },
    { config: '@DIR@/nope' },
    { config: '@DIR@' },
    { config: '' },
    { bogus: 1 },
    { image: 'nope' },
    { image: null },
  ].map((more) => debug(more)),
  inject(),
  inject({ event: 'read_aio' }),
  inject({ event: 'nope' }),
  inject({}),
  inject(5),
  inject({ event: 'none', iotype: 'write', errno: 28, sector: 8, once: true, immediately: true }),
  inject({ event: 'none', iotype: 'nope' }),
  inject({ event: 'none', errno: 'EIO' }),
  inject({ event: 'none', bogus: 1 }),
  inject({ event: 'read_aio', state: 2 }, { event: 'write_aio', once: false }),
  change({ event: 'read_aio', new_state: 2 }),
  change({ event: 'read_aio', state: 2, new_state: 1 }, { event: 'cor_write', new_state: 3 }),
  change({ event: 'read_aio' }),
  config(''),
  config('# nothing\n\n'),
  config('[inject-error]\nevent = "read_aio"\nerrno = "5"\n'),
  config('[set-state]\nevent = "read_aio"\nnew_state = "2"\nstate = "1"\n'),
  config('[set-state]\nevent = "read_aio"\n'),
  config('[inject-error]\nerrno = "5"\n'),
  config('[inject-error]\nevent = "nope"\n'),
  config('[inject-error]\nevent = "none"\nerrno = "x"\n'),
  config('[inject-error]\nevent = "none"\nonce = "maybe"\n'),
  config('[inject-error]\nevent = "none"\nonce = "on"\niotype = "nope"\n'),
  config('[inject-error]\nbogus = "1"\n'),
  config('[inject-error "name"]\nevent = "none"\n'),
  config('[bogus]\nevent = "none"\n'),
  config('event = "none"\n'),
  scene(
    'blkdebug: an inline image',
    node({ driver: 'blkdebug', 'node-name': 'x', image: inline({ 'node-name': 'own' }) }),
    query,
    stats,
    graph,
    del('own'),
    ['block_resize', { 'node-name': 'x', size: MIB / 2 }],
    query,
    ['block_resize', { 'node-name': 'x', size: MIB }],
    del('x'),
  ),
  scene(
    'blkdebug: permissions in the way',
    node(file()),
    node({ driver: 'blkdebug', 'node-name': 'x', image: 'f', 'unshare-child-perms': ['write'] }),
    nbdExport('f'),
    nbdExport('x'),
    graph,
    node({ driver: 'blkdebug', 'node-name': 'y', image: 'f', 'take-child-perms': ['write'] }),
    removeExport,
    node({ driver: 'blkdebug', 'node-name': 'y', image: 'f', 'take-child-perms': ['write'] }),
    del('x'),
    del('f'),
  ),
];

const target: CommandPair = node(nul({ 'node-name': 't', 'read-zeroes': true }));
const tempTarget = (more: object = {}): object => ({
  driver: 'file',
  'node-name': 't',
  filename: '@DIR@/b.img',
  ...more,
});
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

const cbwNodes: Case[] = [
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

const quorumOf = (more: object = {}): object => ({
  driver: 'quorum',
  'node-name': 'x',
  children: ['f', 't'],
  'vote-threshold': 1,
  ...more,
});

const quorumNodes: Case[] = [
  ...[
    {},
    { 'vote-threshold': 2 },
    { 'vote-threshold': 3 },
    { 'vote-threshold': 0 },
    { 'vote-threshold': -1 },
    { 'vote-threshold': 'x' },
    { children: [] },
    { children: 5 },
    { children: ['nope'] },
    { children: ['f', 'f'] },
    { children: ['f'] },
    { blkverify: true },
    { blkverify: true, 'vote-threshold': 2 },
    { blkverify: true, 'vote-threshold': 2, 'rewrite-corrupted': true },
    { blkverify: true, 'read-pattern': 'fifo' },
    { 'rewrite-corrupted': true },
    { 'rewrite-corrupted': true, 'read-only': true },
    { 'read-pattern': 'fifo' },
    { 'read-pattern': 'quorum' },
    { 'read-pattern': 'nope' },
    { bogus: 1 },
  ].map(
    (more): Case => ({
      id: ask('blockdev-add', quorumOf(more)).id,
      steps: scene(
        '',
        node(file()),
        node(tempTarget()),
        node(quorumOf(more)),
        query,
        graph,
        nbdExport('x'),
        graph,
        removeExport,
        del('x'),
        del('t'),
        del('f'),
      ).steps,
    }),
  ),
  scene(
    'quorum: children of different lengths',
    node(file()),
    node(nul({ size: 512 })),
    node(quorumOf({ children: ['f', 'n'] })),
    del('n'),
    del('f'),
  ),
  scene(
    'quorum: inline children, resized and reopened',
    node(quorumOf({ children: [inline(), nul({ 'node-name': 'own' })] })),
    query,
    stats,
    ['block_resize', { 'node-name': 'x', size: MIB }],
    again(quorumOf({ children: ['f'] })),
    del('own'),
    del('x'),
  ),
];

const changeChild = (args: object): CommandPair => ['x-blockdev-change', args];

const changedChildren: Case[] = [
  ...[
    {},
    { parent: 'nope' },
    { parent: 5 },
    { parent: 'x', child: 5 },
    { parent: 'x', bogus: 1 },
  ].map((args) => ask('x-blockdev-change', args)),
  scene(
    'children of what has a fixed number',
    node(file()),
    node({ driver: 'raw', 'node-name': 'x', file: 'f' }),
    node(tempTarget()),
    changeChild({ parent: 'x' }),
    changeChild({ parent: 'x', child: 'file', node: 't' }),
    changeChild({ parent: 'x', child: 'file' }),
    changeChild({ parent: 'x', child: 'backing' }),
    changeChild({ parent: 'x', node: 't' }),
    changeChild({ parent: 'x', node: 'nope' }),
    changeChild({ parent: 'f', child: 'file' }),
    del('x'),
    del('f'),
    del('t'),
  ),
  scene(
    'children of a quorum come and go',
    node(file()),
    node(tempTarget()),
    node(nul()),
    node(quorumOf()),
    changeChild({ parent: 'x', node: 'n' }),
    query,
    graph,
    changeChild({ parent: 'x', node: 'n' }),
    changeChild({ parent: 'x', node: 'x' }),
    changeChild({ parent: 'x', child: 'children.3' }),
    changeChild({ parent: 'x', child: 'n' }),
    changeChild({ parent: 'x', child: 'children.1' }),
    query,
    del('t'),
    node(tempTarget()),
    changeChild({ parent: 'x', node: 't' }),
    graph,
    changeChild({ parent: 'x', child: 'children.3' }),
    changeChild({ parent: 'x', node: 't' }),
    graph,
    changeChild({ parent: 'x', child: 'children.0' }),
    changeChild({ parent: 'x', child: 'children.2' }),
    changeChild({ parent: 'x', child: 'children.3' }),
    query,
    del('f'),
    del('n'),
    del('x'),
    del('t'),
  ),
  scene(
    'children of a quorum whose votes are needed',
    node(quorumOf({ children: [inline(), nul({ 'node-name': 'own' })], 'vote-threshold': 2 })),
    changeChild({ parent: 'x', child: 'children.0' }),
    node(nul()),
    changeChild({ parent: 'x', node: 'n' }),
    changeChild({ parent: 'x', child: 'children.1' }),
    changeChild({ parent: 'x', child: 'children.0' }),
    query,
    del('x'),
    del('n'),
  ),
  scene(
    'children of a quorum that compares',
    node(file()),
    node(tempTarget()),
    node(nul()),
    node(quorumOf({ blkverify: true, 'vote-threshold': 2 })),
    changeChild({ parent: 'x', node: 'n' }),
    changeChild({ parent: 'x', child: 'children.1' }),
    del('x'),
    del('n'),
    del('t'),
    del('f'),
  ),
  scene(
    'a child that cannot be written, for a quorum that is',
    node(file()),
    node(tempTarget()),
    node(nul({ 'read-only': true })),
    node(quorumOf()),
    nbdExport('x'),
    changeChild({ parent: 'x', node: 'n' }),
    graph,
    changeChild({ parent: 'x', child: 'children.1' }),
    removeExport,
    changeChild({ parent: 'x', node: 'n' }),
    graph,
    del('x'),
    del('n'),
    del('t'),
    del('f'),
  ),
];

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

const read = (offset: number) => ({ type: NBD_CMD_READ, offset, length: 512 });

const blkverifyNodes: Case[] = [
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

const blklogwritesNodes: Case[] = [
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

const logs = [
  logFile('good', {}),
  { name: 'empty.log', length: 0 },
  logFile('version', { version: 2 }),
  logFile('sector', { sector: 3 }),
  logFile('flags', { flags: 1 }),
  { name: 'magic.log', length: 512 },
];

const files = [
  { name: 'a.img', length: MIB, fill: [[0, 4096, 0x61]] },
  { name: 'b.img', length: MIB, fill: [[4096, 4096, 0x62]] },
] as const;

const server = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];

/** Names of backing files. */
const debugNames = [
  'blkdebug::a.img',
  'blkdebug:rules:a.img',
  'blkdebug:none:a.img',
  'blkdebug:a.img',
  'blkdebug:',
  'blkdebug::none.img',
  'blkdebug:rules:blkdebug::a.img',
  'blkdebug::nbd:unix:none.sock',
];
const verifyNames = [
  'blkverify:a.img:b.img',
  'blkverify:a.img:c.qcow2',
  'blkverify:a.img:file:b.img',
  'blkverify:a.img:blkdebug::c.qcow2',
  'blkverify:a.img',
  'blkverify:',
  'blkverify::b.img',
  'blkverify:none:b.img',
  'blkverify:a.img:none.img',
  'blkverify:a.img:nope:b.img',
  'blkdebug::blkverify:a.img:b.img',
];

/** Images with backing files of these names. */
const backedBy = (names: readonly string[]): FileSetup[] =>
  names.map((name, index) => ({
    name: `${index}.qcow2`,
    qcow2: { backing: { file: name, format: 'raw' } },
  }));

/** One of them opened. */
const withBacking = (name: string, index: number): Case =>
  scene(
    name,
    node({
      driver: 'qcow2',
      'node-name': 'x',
      file: inline({ filename: `@DIR@/${index}.qcow2` }),
    }),
    ['query-named-block-nodes', { flat: true }],
    graph,
    del('x'),
  );

/** A quorum of `a`, `b` and `n`, and an export of it. */
const quorumOver = (name: string, threshold: number): string[] => [
  '--blockdev',
  `quorum,node-name=${name},vote-threshold=${threshold},children.0=a,children.1=b,children.2=n`,
  '--export',
  `nbd,id=${name},node-name=${name},name=${name}`,
];

export const filters: Area = {
  name: 'filters',
  groups: [
    { name: 'throttle-group', files, cases: throttleGroups },
    {
      name: 'throttle',
      files,
      arguments: [
        '--object',
        'throttle-group,id=shared,x-iops-total=1000000',
        '--object',
        'secret,id=secret,data=x',
        ...server,
      ],
      cases: throttleNodes,
    },
    { name: 'copy-on-read', files, arguments: server, cases: corNodes },
    { name: 'preallocate', files, arguments: server, cases: preallocateNodes },
    { name: 'blkdebug', files, arguments: server, cases: blkdebugNodes },
    {
      name: 'blkdebug in the name of a backing file',
      files: [
        ...files,
        { name: 'rules', text: '[set-state]\nevent = "none"\nnew_state = "2"\n' },
        ...backedBy(debugNames),
      ],
      cases: debugNames.map(withBacking),
    },
    { name: 'copy-before-write', files, arguments: server, cases: cbwNodes },
    { name: 'quorum', files, arguments: server, cases: quorumNodes },
    { name: 'changed children', files, arguments: server, cases: changedChildren },
    { name: 'blkverify', files, arguments: server, cases: blkverifyNodes },
    {
      name: 'blkverify in the name of a backing file',
      files: [...files, { name: 'c.qcow2', qcow2: {} }, ...backedBy(verifyNames)],
      cases: verifyNames.map(withBacking),
    },
    {
      name: 'blkverify, nodes that differ',
      stderr: false,
      files,
      arguments: [
        ...server,
        '--blockdev',
        'blkverify,node-name=x,raw.driver=file,raw.filename=@DIR@/a.img,test.driver=file,test.filename=@DIR@/b.img',
        '--export',
        'nbd,id=e,node-name=x,name=ex',
      ],
      cases: [transmission('are read', 'simple', 'ex', read(8192), read(0))],
    },
    {
      name: 'quorum, children that differ',
      files,
      arguments: [
        ...server,
        ...['a', 'b'].flatMap((name) => [
          '--blockdev',
          `file,node-name=${name},filename=@DIR@/${name}.img`,
        ]),
        '--blockdev',
        `null-co,node-name=n,size=${MIB},read-zeroes=on`,
        ...quorumOver('two', 2),
        ...quorumOver('three', 3),
      ],
      cases: [
        scene('are outvoted', ...transmission('', 'simple', 'two', read(0)).steps, graph),
        scene('have no majority', ...transmission('', 'simple', 'three', read(0)).steps, graph),
        scene('agree', ...transmission('', 'simple', 'three', read(8192)).steps, graph),
      ],
    },
    {
      name: 'quorum, children that differ and must not',
      stderr: false,
      files,
      arguments: [
        ...server,
        '--blockdev',
        'quorum,node-name=x,vote-threshold=2,blkverify=on,children.0.driver=file,children.0.filename=@DIR@/a.img,children.1.driver=file,children.1.filename=@DIR@/b.img',
        '--export',
        'nbd,id=e,node-name=x,name=ex',
      ],
      cases: [transmission('are read', 'simple', 'ex', read(8192), read(0))],
    },
    {
      name: 'blklogwrites',
      files: [...files, ...logs],
      arguments: server,
      cases: blklogwritesNodes,
    },
  ],
  commandLines: [
    {
      id: 'throttle from the command line',
      files,
      arguments: [
        '--object',
        'throttle-group,id=g,limits.iops-total=5',
        '--blockdev',
        'driver=throttle,node-name=x,throttle-group=g,file.driver=file,file.filename=a.img',
        '--blockdev',
        'driver=throttle,node-name=y,throttle-group=h,file=x',
      ],
    },
    {
      id: 'a throttle group that makes no sense',
      arguments: ['--object', 'throttle-group,id=g,x-iops-total=5,x-iops-read=5'],
    },
  ],
};
