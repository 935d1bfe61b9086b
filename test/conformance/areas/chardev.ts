// Character devices by command, and ring buffers.

import {
  type Area,
  ask,
  type Case,
  type CommandPair,
  commandLine,
  type Step,
  scene,
  send,
} from '../case.ts';

const add = (type: string, data: object, id = 'c'): CommandPair => [
  'chardev-add',
  { id, backend: { type, data } },
];
const remove = (id = 'c'): CommandPair => ['chardev-remove', { id }];
/** Refused, or added, looked at and removed. */
const look = (type: string, data: object): Case =>
  scene(`${type} ${JSON.stringify(data)}`, add(type, data), 'query-chardev', remove());
const backend = (value: unknown): Case => {
  const asked = ask('chardev-add', { id: 'c', backend: value });
  return { id: asked.id, steps: [...asked.steps, ...scene('', remove()).steps] };
};
const unix = (path = '@DIR@/c.sock'): object => ({ type: 'unix', data: { path } });
const listening = (more: object = {}): object => ({
  addr: unix(),
  server: true,
  wait: false,
  ...more,
});
const inet = (more: object = {}): object => ({
  type: 'inet',
  data: { host: '127.0.0.1', port: '0', ...more },
});
const write = (data: string, more: object = {}): CommandPair => [
  'ringbuf-write',
  { device: 'rb', data, ...more },
];
const read = (size: number, more: object = {}): CommandPair => [
  'ringbuf-read',
  { device: 'rb', size, ...more },
];
const readFile = (file: string): Step => ({ do: 'read file', file });

const adding: Case[] = [
  ask('chardev-add'),
  ask('chardev-add', {}),
  ask('chardev-add', { id: 'c' }),
  ask('chardev-add', { id: 5, backend: { type: 'null', data: {} } }),
  backend(5),
  backend({}),
  backend({ type: 'null' }),
  backend({ type: 5, data: {} }),
  backend({ type: 'nope', data: {} }),
  backend({ type: 'null', data: 5 }),
  backend({ type: 'null', data: { bogus: 1 } }),
  backend({ type: 'null', data: {}, bogus: 1 }),
  backend({ data: {} }),
  ask('chardev-add', { id: 'c', backend: { type: 'null', data: {} }, bogus: 1 }),
  ...['1c', '', 'a b', '-c', 'a/b', 'ä', 'c.c_c-c', 'qmp'].map((id) =>
    scene(`id ${JSON.stringify(id)}`, add('null', {}, id), remove(id)),
  ),
  scene('twice', add('null', {}), add('null', {}), add('ringbuf', {}), remove(), remove()),
  look('null', {}),
  look('null', { logfile: '@DIR@/log' }),
  look('null', { logfile: '@DIR@/log', logappend: true }),
  look('null', { logfile: '/nonexistent/log' }),
  look('null', { logfile: 5 }),
  look('null', { logappend: 'x' }),
  look('file', {}),
  look('file', { out: 5 }),
  look('file', { out: '@DIR@/out' }),
  look('file', { out: '@DIR@/out', append: true }),
  look('file', { out: '@DIR@/out', append: 'x' }),
  look('file', { out: '/nonexistent/out' }),
  look('file', { out: '@DIR@' }),
  look('file', { out: '@DIR@/out', in: '@DIR@/in' }),
  look('file', { out: '@DIR@/out', in: '/nonexistent/in' }),
  look('pipe', {}),
  look('pipe', { device: 5 }),
  look('pipe', { device: '@DIR@/nope' }),
  look('pipe', { device: '@DIR@/pipe' }),
  look('serial', {}),
  look('serial', { device: 5 }),
  look('serial', { device: '/nonexistent/x' }),
  look('serial', { device: '/dev/null', logfile: '@DIR@/log' }),
  look('mux', {}),
  look('mux', { chardev: 5 }),
  look('mux', { chardev: 'nope' }),
  look('mux', { chardev: 'qmp' }),
  look('stdio', {}),
  look('stdio', { signal: 'x' }),
  look('ringbuf', {}),
  look('ringbuf', { size: 1 }),
  look('ringbuf', { size: 4096 }),
  look('ringbuf', { size: 3 }),
  look('ringbuf', { size: 0 }),
  look('ringbuf', { size: -1 }),
  look('ringbuf', { size: 'x' }),
  look('memory', { size: 64 }),
  look('memory', { size: 65 }),
  look('socket', {}),
  look('socket', { addr: 5 }),
  look('socket', { addr: {} }),
  look('socket', { addr: unix('/nonexistent/x') }),
  look('socket', { addr: unix('/nonexistent/x'), server: true, wait: false }),
  look('socket', { addr: unix('/nonexistent/x'), server: false }),
  look('socket', { addr: unix(`/${'a'.repeat(108)}`), server: true, wait: false }),
  look('socket', listening()),
  look('socket', listening({ telnet: false })),
  look('socket', listening({ nodelay: true })),
  look('socket', listening({ reconnect: 1 })),
  look('socket', listening({ reconnect: 0 })),
  // An id of its own: the reference cannot use it again until its attempt in the background is over.
  scene(
    'reconnecting',
    add('socket', { addr: unix('/nonexistent/x'), server: false, reconnect: 1 }, 'again'),
    'query-chardev',
    remove('again'),
  ),
  look('socket', { addr: unix('/nonexistent/x'), server: false, wait: true }),
  look('socket', { addr: unix('/nonexistent/x'), server: false, wait: false }),
  look('socket', listening({ wait: 'x' })),
  look('socket', listening({ server: 'x' })),
  look('socket', listening({ bogus: 'x' })),
  look('socket', listening({ 'tls-creds': 'nope' })),
  look('socket', listening({ 'tls-authz': 'nope' })),
  look('socket', listening({ addr: inet() })),
  look('socket', listening({ addr: inet({ to: 5 }), nodelay: true })),
  look('socket', listening({ addr: inet({ port: 'notaport' }) })),
  look('socket', listening({ addr: inet({ host: '192.0.2.1', port: '9' }) })),
  look('socket', { addr: inet({ port: '1' }), server: false }),
  look(
    'socket',
    listening({ addr: { type: 'unix', data: { path: '@DIR@/abstract', abstract: true } } }),
  ),
  look(
    'socket',
    listening({
      addr: { type: 'unix', data: { path: '@DIR@/loose', abstract: true, tight: false } },
    }),
  ),
  look('socket', listening({ addr: { type: 'fd', data: { str: '99' } } })),
  look('socket', listening({ addr: { type: 'fd', data: { str: 'x' } } })),
  look('socket', listening({ addr: { type: 'vsock', data: { cid: 'x', port: '1' } } })),
  look('pty', {}),
];

const others: Case[] = [
  ask('chardev-remove'),
  ask('chardev-remove', { id: 5 }),
  ask('chardev-remove', { id: 'nope' }),
  ask('chardev-remove', { id: 'qmp' }),
  ask('chardev-remove', { id: 'nope', bogus: 1 }),
  ask('chardev-send-break'),
  ask('chardev-send-break', { id: 'nope' }),
  ask('chardev-send-break', { id: 'qmp' }),
  scene(
    'a break to a null chardev',
    add('null', {}),
    ['chardev-send-break', { id: 'c' }],
    remove(),
  ),
  ask('chardev-change'),
  ask('chardev-change', { id: 'nope', backend: { type: 'null', data: {} } }),
  ask('chardev-change', { id: 'c', backend: { type: 'nope', data: {} } }),
  ask('chardev-change', { id: 'qmp', backend: { type: 'null', data: {} } }),
  scene(
    'change a chardev without user',
    add('null', {}),
    ['chardev-change', { id: 'c', backend: { type: 'ringbuf', data: { size: 16 } } }],
    'query-chardev',
    ['ringbuf-write', { device: 'c', data: 'x' }],
    ['chardev-change', { id: 'c', backend: { type: 'ringbuf', data: { size: 3 } } }],
    ['chardev-change', { id: 'c', backend: { type: 'file', data: { out: '/nonexistent/x' } } }],
    'query-chardev',
    remove(),
  ),
  ask('query-chardev'),
  ask('query-chardev', { x: 1 }),
  ask('query-chardev-backends', { x: 1 }),
];

const ring: Case[] = [
  ask('ringbuf-write'),
  ask('ringbuf-write', { device: 'rb' }),
  ask('ringbuf-write', { data: 'x' }),
  ask('ringbuf-write', { device: 'nope', data: 'x' }),
  ask('ringbuf-write', { device: 'qmp', data: 'x' }),
  ask('ringbuf-write', { device: 'rb', data: 5 }),
  ask('ringbuf-write', { device: 'rb', data: 'x', format: 'hex' }),
  ask('ringbuf-write', { device: 'rb', data: '!', format: 'base64' }),
  ask('ringbuf-write', { device: 'rb', data: 'YQ', format: 'base64' }),
  ask('ringbuf-write', { device: 'rb', data: 'Y Q==', format: 'base64' }),
  ask('ringbuf-write', { device: 'rb', data: 'YQ==\n', format: 'base64' }),
  ask('ringbuf-write', { device: 'rb', data: 'x', bogus: 1 }),
  ask('ringbuf-read'),
  ask('ringbuf-read', { device: 'rb' }),
  ask('ringbuf-read', { device: 'nope', size: 1 }),
  ask('ringbuf-read', { device: 'qmp', size: 1 }),
  ask('ringbuf-read', { device: 'rb', size: 0 }),
  ask('ringbuf-read', { device: 'rb', size: -1 }),
  ask('ringbuf-read', { device: 'rb', size: 'x' }),
  ask('ringbuf-read', { device: 'rb', size: 1, format: 'hex' }),
  scene('empty it first', read(100)),
  scene('write and read', write('hello'), read(2), read(100), read(1)),
  scene('overflow keeps the newest', write('0123456789abcdefGHIJ'), read(100)),
  scene('wraps around', write('0123456789'), read(8), write('abcdefghij'), read(100)),
  scene('base64', write('AAEC/w==', { format: 'base64' }), read(100, { format: 'base64' })),
  scene('bytes that are no UTF-8', write('AMP/YsM=', { format: 'base64' }), read(100)),
  scene('UTF-8 cut in two', write('é€😀'), read(3), read(3), read(3)),
  scene('quotes', write('"\\\n\t\u0001'), read(100)),
  scene('nothing', write(''), read(5)),
  scene(
    'other size',
    add('ringbuf', { size: 1 }),
    ['ringbuf-write', { device: 'c', data: 'xyz' }],
    ['ringbuf-read', { device: 'c', size: 9 }],
    remove(),
  ),
];

/** The answers of two monitors on `m`, which came together. */
const greetings: Step = { do: 'listen', on: 'm', hears: 2 };
const negotiate: CommandPair = ['qmp_capabilities', {}, 'm'];
const version: CommandPair = ['query-version', undefined, 'm'];
const nextMonitor = send('\x01c', 'm');

const shared: Case[] = [
  scene(
    'two monitors greet, and have sessions of their own',
    { do: 'monitor', path: 'm.sock', as: 'm' },
    greetings,
    negotiate,
    negotiate,
    nextMonitor,
    version,
    negotiate,
    nextMonitor,
    ['query-chardev', undefined, 'm'],
  ),
  scene(
    'both hear of events',
    ['blockdev-add', { driver: 'null-co', 'node-name': 'n' }],
    ['nbd-server-start', { addr: unix('@DIR@/nbd.sock') }],
    ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' }],
    ['block-export-del', { id: 'e' }],
    greetings,
  ),
  scene(
    'in use',
    remove('m'),
    remove('m-base'),
    ['chardev-change', { id: 'm', backend: { type: 'null', data: {} } }],
    ['chardev-change', { id: 'm-base', backend: { type: 'null', data: {} } }],
    add('mux', { chardev: 'm-base' }),
    ['chardev-send-break', { id: 'm' }],
    ['ringbuf-read', { device: 'm', size: 1 }],
  ),
  scene(
    'in the object model',
    ['qom-list', { path: '/chardevs' }],
    ['qom-list', { path: '/chardevs/m' }],
    ['qom-get', { path: '/chardevs/m', property: 'type' }],
  ),
  scene(
    'the peer leaves',
    { do: 'hang up', on: 'm' },
    {
      do: 'command until',
      line: commandLine('query-chardev'),
      on: 'main',
      has: 'disconnected:unix',
    },
  ),
  scene(
    'the next one is greeted anew',
    { do: 'monitor', path: 'm.sock', as: 'm' },
    greetings,
    version,
    nextMonitor,
    version,
  ),
  scene(
    'multiplexers by command',
    add('null', {}, 'b'),
    add('mux', { chardev: 'b', logfile: '@DIR@/muxlog' }, 'x'),
    add('mux', { chardev: 'b' }, 'y'),
    add('mux', { chardev: 'x' }, 'z'),
    'query-chardev',
    remove('b'),
    remove('x'),
    ['chardev-change', { id: 'b', backend: { type: 'null', data: {} } }],
    ['chardev-change', { id: 'x', backend: { type: 'null', data: {} } }],
  ),
];

// A command at a time: of more the reference loses a part. Ctrl-A x is not here: it may go on until something else wakes it.
const help: Step = { do: 'listen', on: 'm', hears: 8 };
const keys: Case[] = [
  scene(
    'a peer',
    // Who comes before the reference's monitor is greeted once, who comes later twice.
    {
      do: 'command until',
      line: commandLine('query-chardev'),
      on: 'main',
      has: '"frontend-open": true, "filename": "mux"',
    },
    { do: 'monitor', path: 'm.sock', as: 'm' },
    negotiate,
  ),
  scene('no meaning', send('\x01z\x01\r\x01', 'm'), send('\0', 'm'), version),
  scene('break', send('\x01b', 'm'), version),
  scene('the next monitor, where there is one', send('\x01c', 'm'), version),
  scene('help', send('\x01h', 'm'), help, version, send('\x01?', 'm'), help, version),
  scene('twice the escape', { do: 'raw', bytes: Buffer.from('\x01\x01'), on: 'm' }),
  scene('within a command', send('{"execute":"query-\x01bversion"}', 'm'), {
    do: 'listen',
    on: 'm',
    hears: 1,
  }),
  scene('times', send('\x01t', 'm'), version, version, version),
  scene('no times', send('\x01t', 'm'), version),
  scene('times again', send('\x01t', 'm'), version, version),
  // The reference sends first, then notes what it sent, and then carries out what another monitor asks for.
  scene('what was written', 'query-jobs', readFile('log'), readFile('muxlog')),
];

export const chardev: Area = {
  name: 'chardev',
  groups: [
    {
      name: 'chardev-add',
      files: [
        { name: 'pipe', kind: 'fifo' },
        { name: 'in', text: 'input' },
      ],
      stderr: false,
      cases: adding,
    },
    { name: 'chardev', cases: others },
    {
      name: 'two monitors on a socket',
      arguments: [
        '--chardev',
        'socket,id=m,path=@DIR@/m.sock,server=on,wait=off,mux=on',
        '--monitor',
        'm',
        '--monitor',
        'm',
      ],
      cases: shared,
    },
    {
      name: 'keys at a multiplexer',
      arguments: [
        '--chardev',
        'socket,id=b,path=@DIR@/m.sock,server=on,wait=off,logfile=@DIR@/log',
        '--chardev',
        'mux,id=m,chardev=b,logfile=@DIR@/muxlog',
        '--monitor',
        'm',
      ],
      cases: keys,
    },
    {
      name: 'a key that ends the reference',
      arguments: [
        '--chardev',
        'socket,id=m,path=@DIR@/m.sock,server=on,wait=off,mux=on',
        '--monitor',
        'm',
      ],
      cases: [
        scene(
          'Ctrl-A s',
          { do: 'monitor', path: 'm.sock', as: 'm' },
          negotiate,
          send('\x01s', 'm'),
          version,
        ),
      ],
    },
    { name: 'ringbuf', arguments: ['--chardev', 'ringbuf,id=rb,size=16'], cases: ring },
    {
      name: 'a monitor on a socket chardev',
      arguments: [
        '--chardev',
        'socket,id=m,path=@DIR@/m.sock,server=on,wait=off,logfile=@DIR@/log',
        '--monitor',
        'm',
      ],
      cases: [
        scene('in use', remove('m'), 'query-chardev'),
        scene(
          'log of a session',
          { do: 'monitor', path: 'm.sock', as: 'm' },
          ['qmp_capabilities', {}, 'm'],
          ['query-version', undefined, 'm'],
          // The reference sends first, then notes what it sent, and then carries out what another monitor asks for.
          'query-jobs',
          readFile('log'),
        ),
        scene('query while connected', 'query-chardev'),
        scene(
          'query after it left',
          { do: 'hang up', on: 'm' },
          {
            do: 'command until',
            line: commandLine('query-chardev'),
            on: 'main',
            has: 'disconnected:unix',
          },
        ),
      ],
    },
  ],
};
