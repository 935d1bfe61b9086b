// NBD option haggling, byte by byte.

import { type Area, type Case, type Group, type Heard, type Step, scene } from '../case.ts';
import {
  go,
  goPayload,
  handshake,
  hello,
  metaPayload,
  NBD_FLAGS,
  NBD_OPT_ABORT,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_PEEK_EXPORT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  option,
  setMeta,
  structured,
  u16,
  u32,
} from '../wire-steps.ts';

const opt = (number: number, payload?: Uint8Array): Step => option('c', number, payload);
const info = (name: string, infos: readonly number[] = []): Step =>
  opt(NBD_OPT_INFO, goPayload(name, infos));
const listMeta = (name: string, queries: readonly string[]): Step =>
  opt(NBD_OPT_LIST_META_CONTEXT, metaPayload(name, queries));
const send = (bytes: Uint8Array, hears: Heard): Step => ({ do: 'bytes', on: 'c', bytes, hears });
const text = (value: string): Uint8Array => Buffer.from(value);
const join = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);
const read: Step = { do: 'requests', on: 'c', requests: [{ type: 0, length: 16 }] };
const status: Step = { do: 'requests', on: 'c', requests: [{ type: 7, length: 4096 }] };
const exportName = (name: string, zeroes: boolean): Step => ({
  do: 'export name',
  on: 'c',
  name,
  zeroes,
});
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

const exportNames: Case[] = [
  handshake('export name', exportName('ex', false), read),
  handshake('export name of a read-only export', exportName('ro', false), read),
  handshake('unknown export name', exportName('nope', false)),
  handshake('empty export name', exportName('', false)),
  handshake('export name of 4,096 bytes', exportName('n'.repeat(4096), false)),
  handshake('export name of 4,097 bytes', exportName('n'.repeat(4097), false)),
  handshake('export name with structured replies', structured('c'), exportName('ex', false), read),
  handshake(
    'export name with extents',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    exportName('ex', false),
    status,
  ),
];

const infos: Case[] = [
  handshake('info', info('ex')),
  ...[[0], [1], [2], [3], [4], [0xffff], [0, 1, 2, 3], [3, 3], [1, 1]].map((list) =>
    handshake(`info ${list.join(' ')}`, info('ex', list)),
  ),
  handshake('info of the read-only export', info('ro', [1, 2, 3])),
  handshake('info of the export without description', info('plain', [1, 2, 3])),
  handshake('info of an unknown export', info('nope')),
  handshake('info of the empty name', info('')),
  handshake('info does not choose', info('ex'), opt(NBD_OPT_LIST)),
  handshake('info again and again', info('ex'), info('ro'), info('nope'), info('ex')),
  handshake(
    'many info requests',
    info(
      'ex',
      Array.from({ length: 1000 }, (_, at) => at),
    ),
  ),
];

const payload = (number: number, bytes: Uint8Array): Step => opt(number, bytes);
const malformed: readonly (readonly [string, Uint8Array])[] = [
  ['no payload', new Uint8Array()],
  ['three bytes', new Uint8Array(3)],
  ['name length alone', u32(2)],
  ['a name longer than the payload', join(u32(100), text('ex'), u16(0))],
  ['no number of requests', join(u32(2), text('ex'))],
  ['one byte of the number', join(u32(2), text('ex'), new Uint8Array(1))],
  ['a number without requests', join(u32(2), text('ex'), u16(2), u16(3))],
  ['requests after the last', join(u32(2), text('ex'), u16(1), u16(3), u16(3))],
  ['a byte too many', join(u32(2), text('ex'), u16(0), new Uint8Array(1))],
  ['name of 4,096 bytes', join(u32(4096), text('n'.repeat(4096)), u16(0))],
  ['name of 4,097 bytes', join(u32(4097), text('n'.repeat(4097)), u16(0))],
  ['name length 0xffffffff', join(u32(0xffffffff), text('ex'), u16(0))],
  ['a NUL in the name', join(u32(3), text('e\0x'), u16(0))],
];

const gos: Case[] = [
  handshake('go', go('c', 'ex'), read),
  handshake('go with requests', go('c', 'ex', [0, 1, 2, 3]), read),
  handshake('go to the read-only export', go('c', 'ro', [3]), read),
  handshake('go to an unknown export, then to a known', go('c', 'nope'), go('c', 'ex'), read),
  handshake('go with structured replies', structured('c'), go('c', 'ex'), read),
  handshake('go to the export with the long name', go('c', 'n'.repeat(4096)), read),
  ...malformed.map(([name, bytes]) =>
    handshake(`go: ${name}`, payload(NBD_OPT_GO, bytes), opt(NBD_OPT_LIST)),
  ),
  ...malformed.map(([name, bytes]) =>
    handshake(`info: ${name}`, payload(NBD_OPT_INFO, bytes), opt(NBD_OPT_LIST)),
  ),
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

const queries: readonly (readonly string[])[] = [
  [],
  ['base:allocation'],
  ['base:'],
  ['base'],
  ['base:allocatio'],
  ['base:allocations'],
  ['BASE:ALLOCATION'],
  ['base:bogus'],
  ['qemu:'],
  ['qemu:allocation-depth'],
  ['qemu:dirty-bitmap:'],
  ['qemu:dirty-bitmap:zz'],
  ['qemu:bogus'],
  ['bogus:'],
  ['bogus'],
  [''],
  [':'],
  ['base:allocation', 'base:allocation'],
  ['bogus:x', 'base:allocation', 'qemu:allocation-depth'],
  ['base:allocation\0'],
  ['x'.repeat(5000)],
  Array.from({ length: 2000 }, () => 'base:allocation'),
];

const naming = (list: readonly string[]): string => {
  const words = JSON.stringify(list);
  return words.length > 90 ? `${words.slice(0, 60)}… (${list.length})` : words;
};

const metaMalformed: readonly (readonly [string, Uint8Array])[] = [
  ['no payload', new Uint8Array()],
  ['name length alone', u32(2)],
  ['no number of queries', join(u32(2), text('ex'))],
  ['fewer queries than said', join(u32(2), text('ex'), u32(2), u32(5), text('base:'))],
  ['a query longer than the payload', join(u32(2), text('ex'), u32(1), u32(50), text('base:'))],
  ['a byte too many', join(u32(2), text('ex'), u32(1), u32(5), text('base:x'))],
  ['number 0xffffffff', join(u32(2), text('ex'), u32(0xffffffff))],
  ['query length 0xffffffff', join(u32(2), text('ex'), u32(1), u32(0xffffffff))],
  ['name of 4,097 bytes', join(u32(4097), text('n'.repeat(4097)), u32(0))],
];

const metaContexts: Case[] = [
  ...queries.map((list) => handshake(`list meta ${naming(list)}`, listMeta('ex', list))),
  ...queries.map((list) =>
    handshake(`set meta ${naming(list)}`, structured('c'), setMeta('c', 'ex', list)),
  ),
  handshake('list meta with structured replies', structured('c'), listMeta('ex', [])),
  handshake('list meta of an unknown export', listMeta('nope', [])),
  handshake('set meta without structured replies', setMeta('c', 'ex', ['base:allocation'])),
  handshake(
    'set meta of an unknown export',
    structured('c'),
    setMeta('c', 'nope', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta then go',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta then go elsewhere',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ro'),
    status,
  ),
  handshake(
    'set meta for nothing then go',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    setMeta('c', 'ex', []),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta anew',
    structured('c'),
    setMeta('c', 'ex', []),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta that fails resets',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    setMeta('c', 'nope', []),
    go('c', 'ex'),
    status,
  ),
  handshake('no status without a context', structured('c'), go('c', 'ex'), status),
  handshake('no status without structured replies', go('c', 'ex'), status),
  ...metaMalformed.map(([name, bytes]) =>
    handshake(
      `set meta: ${name}`,
      structured('c'),
      payload(NBD_OPT_SET_META_CONTEXT, bytes),
      opt(NBD_OPT_LIST),
    ),
  ),
  ...metaMalformed
    .slice(0, 6)
    .map(([name, bytes]) =>
      handshake(`list meta: ${name}`, payload(NBD_OPT_LIST_META_CONTEXT, bytes), opt(NBD_OPT_LIST)),
    ),
];

const allocationDepth: Case[] = [
  handshake(
    'allocation depth where it is offered',
    structured('c'),
    setMeta('c', 'depth', ['base:allocation', 'qemu:allocation-depth']),
    go('c', 'depth'),
  ),
  handshake('list meta where allocation depth is offered', listMeta('depth', [])),
  handshake('list', opt(NBD_OPT_LIST)),
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
