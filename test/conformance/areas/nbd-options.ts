// NBD option haggling, byte by byte.

import { type Area, type Case, type Group, type Heard, type Step, scene } from '../case.ts';
import {
  go,
  handshake,
  hello,
  NBD_FLAGS,
  NBD_OPT_ABORT,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_LIST,
  NBD_OPT_PEEK_EXPORT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  structured,
  u16,
  u32,
} from '../wire-steps.ts';
import { allocationDepth, metaContexts } from './nbd-options/contexts.ts';
import { exportNames, gos, infos } from './nbd-options/exports.ts';
import { exportName, info, join, opt, read, text } from './nbd-options/steps.ts';

const send = (bytes: Uint8Array, hears: Heard): Step => ({ do: 'bytes', on: 'c', bytes, hears });

const optionBytes = (
  number: number,
  length: number,
  payload: Uint8Array = new Uint8Array(),
): Uint8Array => join(text('IHAVEOPT'), u32(number), u32(length), payload);

const simple: Case[] = [
  handshake('list', opt(NBD_OPT_LIST)),
  handshake('list with payload', opt(NBD_OPT_LIST, text('x')), opt(NBD_OPT_LIST)),
  handshake('peek', opt(NBD_OPT_PEEK_EXPORT)),
  handshake('starttls', opt(NBD_OPT_STARTTLS)),
  handshake('starttls with payload', opt(NBD_OPT_STARTTLS, text('x')), opt(NBD_OPT_LIST)),
  handshake('abort', opt(NBD_OPT_ABORT), send(new Uint8Array(), 'the end')),
  handshake(
    'abort with payload',
    opt(NBD_OPT_ABORT, text('bye')),
    send(new Uint8Array(), 'the end'),
  ),
  handshake('extended headers', opt(NBD_OPT_EXTENDED_HEADERS)),
  ...[0, 12, 99, 0x7fffffff, 0x80000000, 0xffffffff].map((number) =>
    handshake(`option ${number}`, opt(number), opt(NBD_OPT_LIST)),
  ),
  handshake('unknown option with 5,000 bytes', opt(99, new Uint8Array(5000)), opt(NBD_OPT_LIST)),
  handshake('unknown option with 70,000 bytes', opt(99, new Uint8Array(70_000)), opt(NBD_OPT_LIST)),
  handshake('unknown option with 2 MiB', opt(99, new Uint8Array(2 << 20)), opt(NBD_OPT_LIST)),
  handshake('unknown option that claims 32 MiB and a byte', {
    do: 'option',
    on: 'c',
    option: 99,
    payload: new Uint8Array(),
    claims: (32 << 20) + 1,
  }),
  handshake('list that claims 32 MiB and a byte', {
    do: 'option',
    on: 'c',
    option: 3,
    payload: new Uint8Array(),
    claims: (32 << 20) + 1,
  }),
  handshake('wrong option magic', {
    do: 'option',
    on: 'c',
    option: 3,
    payload: new Uint8Array(),
    magic: 0x4948415645545054n,
  }),
  handshake('list fifty times', ...Array.from({ length: 50 }, () => opt(NBD_OPT_LIST))),
  handshake('two options in one packet', send(join(optionBytes(3, 0), optionBytes(99, 0)), 4289)),
  handshake(
    'an option in pieces',
    send(text('IHAV'), 'nothing'),
    send(text('EOPT'), 'nothing'),
    send(join(u32(3), u16(0)), 'nothing'),
    send(u16(0), 4236),
  ),
];

const clientFlags: Case[] = [
  ...[0, 2, 4, 0x100, 0x80000000, 7].map((flags) =>
    scene(`flags ${flags} and list`, hello('c', flags), opt(NBD_OPT_LIST)),
  ),
  scene('flags 1 and export name', hello('c', 1), exportName('ex', true), read),
  scene('flags 0 and export name', hello('c', 0), exportName('ex', true), read),
  scene('flags 2 and export name', hello('c', 2), exportName('ex', false), read),
  scene('flags 0 and go', hello('c', 0), go('c', 'ex')),
  scene('flags 0 and abort', hello('c', 0), opt(NBD_OPT_ABORT)),
  scene('flags 0 and structured', hello('c', 0), structured('c')),
  scene('flags 1 and go', hello('c', 1), go('c', 'ex'), read),
];

const structuredReplies: Case[] = [
  handshake('structured reply', structured('c')),
  handshake('structured reply twice', structured('c'), structured('c')),
  handshake(
    'structured reply with payload',
    opt(NBD_OPT_STRUCTURED_REPLY, text('x')),
    structured('c'),
  ),
  handshake(
    'extended headers after structured reply',
    structured('c'),
    opt(NBD_OPT_EXTENDED_HEADERS),
  ),
];

const disconnects: Case[] = [
  scene(
    'after the greeting',
    hello('c', NBD_FLAGS),
    { do: 'drop', on: 'c' },
    'query-block-exports',
  ),
  scene(
    'inside an option',
    hello('c', NBD_FLAGS),
    send(text('IHAVE'), 'nothing'),
    { do: 'drop', on: 'c' },
    'query-block-exports',
  ),
  scene(
    'inside a payload',
    hello('c', NBD_FLAGS),
    send(optionBytes(7, 100, text('x')), 'nothing'),
    { do: 'drop', on: 'c' },
    'query-block-exports',
  ),
  scene(
    'inside the client flags',
    { do: 'nbd', path: '@DIR@/nbd.sock', as: 'c', flags: NBD_FLAGS },
    opt(NBD_OPT_LIST),
    { do: 'drop', on: 'c' },
    'query-block-exports',
  ),
];

const daemon: Pick<Group, 'files' | 'arguments'> = {
  files: [{ name: 'a.img', length: 10485760, fill: [[0, 131072, 0x5a]] }],
  arguments: [
    '--blockdev',
    'file,node-name=f,filename=@DIR@/a.img',
    '--blockdev',
    'raw,node-name=r,file=f',
    '--nbd-server',
    'addr.type=unix,addr.path=@DIR@/nbd.sock',
    '--export',
    'nbd,id=e1,node-name=r,name=ex,description=hello,writable=on',
    '--export',
    'nbd,id=e2,node-name=r,name=ro,description=read,, only',
    '--export',
    'nbd,id=e3,node-name=r,name=plain,writable=on',
    '--export',
    `nbd,id=e4,node-name=r,name=${'n'.repeat(4096)}`,
  ],
};

export const nbdOptions: Area = {
  name: 'nbd-options',
  groups: [
    { name: 'options', ...daemon, stderr: false, cases: simple },
    { name: 'client flags', ...daemon, cases: clientFlags },
    { name: 'NBD_OPT_EXPORT_NAME', ...daemon, stderr: false, cases: exportNames },
    { name: 'NBD_OPT_INFO', ...daemon, cases: infos },
    { name: 'NBD_OPT_GO', ...daemon, cases: gos },
    { name: 'NBD_OPT_STRUCTURED_REPLY', ...daemon, cases: structuredReplies },
    { name: 'meta contexts', ...daemon, cases: metaContexts },
    {
      name: 'allocation depth',
      files: daemon.files ?? [],
      arguments: [
        ...(daemon.arguments ?? []),
        '--export',
        'nbd,id=e5,node-name=r,name=depth,allocation-depth=on',
      ],
      cases: allocationDepth,
    },
    { name: 'disconnects', ...daemon, stderr: false, cases: disconnects },
    {
      name: 'no exports',
      arguments: ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'],
      cases: [
        handshake('list', opt(NBD_OPT_LIST)),
        handshake('go', go('c', '')),
        handshake('export name', exportName('', false)),
      ],
    },
    {
      name: 'one connection at most',
      files: daemon.files ?? [],
      arguments: [
        '--blockdev',
        'file,node-name=f,filename=@DIR@/a.img',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock,max-connections=1',
        '--export',
        'nbd,id=e1,node-name=f,name=ex',
        '--export',
        'nbd,id=e2,node-name=f,name=rw,writable=on',
      ],
      stderr: false,
      cases: [
        handshake(
          'flags without CAN_MULTI_CONN',
          info('ex'),
          info('rw'),
          structured('c'),
          info('ex'),
          info('rw'),
        ),
      ],
    },
    {
      name: 'export called by the empty name',
      files: daemon.files ?? [],
      arguments: [
        '--blockdev',
        'file,node-name=f,filename=@DIR@/a.img',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock',
        '--export',
        'nbd,id=e1,node-name=f,name=',
      ],
      cases: [
        handshake('go', go('c', '', [1]), read),
        handshake('export name', exportName('', false), read),
        handshake('list', opt(NBD_OPT_LIST)),
      ],
    },
  ],
};
