// blkdebug: rules, states, limits and files of rules.

import { ask, type Case, scene } from '../../case.ts';
import { again, del, graph, nbdExport, node, removeExport, stats } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { file, inline, nul, query } from './steps.ts';

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

export const blkdebugNodes: Case[] = [
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
