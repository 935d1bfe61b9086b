// TLS credentials, and the NBD server under TLS.

import {
  type CredentialFiles,
  clientFiles,
  contentOf,
  OTHER_PSK,
  PSK,
  pskFiles,
  serverFiles,
} from '../../helpers/tls-files.ts';
import {
  type Area,
  ask,
  type Case,
  type CommandPair,
  type FileSetup,
  type Step,
  scene,
} from '../case.ts';
import {
  go,
  handshake,
  hello,
  NBD_FLAGS,
  NBD_OPT_ABORT,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  nbd,
  option,
} from '../wire-steps.ts';

const directories: Readonly<Record<string, CredentialFiles>> = {
  empty: {},
  good: serverFiles,
  client: clientFiles(),
  'no-ca': { ...serverFiles, 'ca-cert.pem': 'text:' },
  'no-key': { 'ca-cert.pem': 'ca-cert.pem', 'server-cert.pem': 'server-cert.pem' },
  'ca-expired': { ...serverFiles, 'ca-cert.pem': 'ca-expired-cert.pem' },
  'ca-future': { ...serverFiles, 'ca-cert.pem': 'ca-future-cert.pem' },
  'ca-leaf': { ...serverFiles, 'ca-cert.pem': 'ca-leaf-cert.pem' },
  'ca-unsigning': { ...serverFiles, 'ca-cert.pem': 'ca-unsigning-cert.pem' },
  'ca-other': { ...serverFiles, 'ca-cert.pem': 'other-cert.pem' },
  'ca-junk': { ...serverFiles, 'ca-cert.pem': 'text:junk' },
  expired: { ...serverFiles, 'server-cert.pem': 'server-expired-cert.pem' },
  future: { ...serverFiles, 'server-cert.pem': 'server-future-cert.pem' },
  authority: { ...serverFiles, 'server-cert.pem': 'server-ca-cert.pem' },
  unsigning: { ...serverFiles, 'server-cert.pem': 'server-unsigning-cert.pem' },
  'for-clients': {
    ...serverFiles,
    'server-cert.pem': 'client-cert.pem',
    'server-key.pem': 'client-key.pem',
  },
  'cert-junk': { ...serverFiles, 'server-cert.pem': 'text:junk' },
  'key-junk': { ...serverFiles, 'server-key.pem': 'text:junk' },
  'key-other': { ...serverFiles, 'server-key.pem': 'other-key.pem' },
  'key-encrypted': { ...serverFiles, 'server-key.pem': 'server-encrypted-key.pem' },
  crl: { ...serverFiles, 'ca-crl.pem': 'ca-crl.pem' },
  'crl-junk': { ...serverFiles, 'ca-crl.pem': 'text:junk' },
  dh: { ...serverFiles, ...pskFiles, 'dh-params.pem': 'dh-params.pem' },
  'dh-junk': { ...serverFiles, ...pskFiles, 'dh-params.pem': 'text:junk' },
  psk: pskFiles,
};

const files: readonly FileSetup[] = Object.entries(directories).flatMap(([directory, content]) => [
  { name: directory, kind: 'directory' as const },
  ...Object.entries(content).map(([name, source]) => ({
    name: `${directory}/${name}`,
    text: contentOf(source),
  })),
]);

const tryAdd = (id: string, options: object): Case =>
  scene(id, ['object-add', { id: 'o', ...options }], ['object-del', { id: 'o' }]);
const x509 = (directory: string, more: object = {}): object => ({
  'qom-type': 'tls-creds-x509',
  dir: `@DIR@/${directory}`,
  endpoint: 'server',
  ...more,
});
const psk = (more: object): object => ({ 'qom-type': 'tls-creds-psk', ...more });
const get = (property: string, path = 'o'): CommandPair => ['qom-get', { path, property }];

const properties = ['endpoint', 'dir', 'verify-peer', 'priority', 'loaded', 'nope'];

const adding: readonly Case[] = [
  tryAdd('x509 of nothing', { 'qom-type': 'tls-creds-x509' }),
  ...Object.keys(directories).flatMap((directory) => [
    tryAdd(`x509 for a server: ${directory}`, x509(directory)),
    tryAdd(`x509 unchecked: ${directory}`, x509(directory, { 'sanity-check': false })),
  ]),
  tryAdd('x509 for a client', x509('client', { endpoint: 'client' })),
  tryAdd('x509 for a client without a certificate', x509('good', { endpoint: 'client' })),
  tryAdd('x509 for neither', x509('good', { endpoint: 'both' })),
  tryAdd('x509 with a file for a directory', x509('good/ca-cert.pem')),
  tryAdd('x509 loaded', x509('good', { loaded: true })),
  tryAdd('x509 with something else', x509('good', { bogus: 1 })),
  tryAdd('x509 with a priority of any kind', x509('good', { priority: 'bogus' })),
  ...['password', 'wrong', 'nope', ''].map((passwordid) =>
    tryAdd(`x509 with the password ${passwordid}`, x509('key-encrypted', { passwordid })),
  ),
  tryAdd('x509 with a password for nothing', x509('good', { passwordid: 'password' })),
  tryAdd('psk of nothing', psk({})),
  tryAdd('psk for a server', psk({ dir: '@DIR@/psk', endpoint: 'server' })),
  tryAdd('psk without a file', psk({ dir: '@DIR@/good', endpoint: 'server' })),
  tryAdd(
    'psk for a server with a user',
    psk({ dir: '@DIR@/psk', endpoint: 'server', username: 'alice' }),
  ),
  tryAdd('psk with parameters', psk({ dir: '@DIR@/dh', endpoint: 'server' })),
  tryAdd('psk with broken parameters', psk({ dir: '@DIR@/dh-junk', endpoint: 'server' })),
  tryAdd('psk for a client', psk({ dir: '@DIR@/psk', username: 'alice' })),
  tryAdd('psk for an unknown client', psk({ dir: '@DIR@/psk', username: 'ali' })),
  tryAdd('psk for a nameless client', psk({ dir: '@DIR@/psk' })),
  tryAdd('anon', { 'qom-type': 'tls-creds-anon' }),
  tryAdd('anon for a server', { 'qom-type': 'tls-creds-anon', endpoint: 'server' }),
  tryAdd('anon with broken parameters', {
    'qom-type': 'tls-creds-anon',
    endpoint: 'server',
    dir: '@DIR@/dh-junk',
  }),
  tryAdd('anon for a client needs nothing', { 'qom-type': 'tls-creds-anon', dir: '@DIR@/nope' }),
  tryAdd('suites without a priority', { 'qom-type': 'tls-cipher-suites' }),
  tryAdd('suites', { 'qom-type': 'tls-cipher-suites', priority: 'NORMAL:-VERS-TLS1.3' }),
  tryAdd('suites that make no sense', { 'qom-type': 'tls-cipher-suites', priority: 'BOGUS' }),
  tryAdd('keyring of nothing', { 'qom-type': 'secret_keyring' }),
  tryAdd('keyring 0', { 'qom-type': 'secret_keyring', serial: 0 }),
  tryAdd('keyring too large', { 'qom-type': 'secret_keyring', serial: 2 ** 31 }),
];

const tree: readonly Case[] = [
  ...[
    'tls-creds',
    'tls-creds-x509',
    'tls-creds-psk',
    'tls-creds-anon',
    'tls-cipher-suites',
    'authz-list-file',
    'secret_keyring',
  ].map((typename) => ask('qom-list-properties', { typename })),
  scene(
    'properties of x509',
    ['object-add', { id: 'o', ...x509('good') }],
    ['qom-list', { path: '/objects/o' }],
    ...[...properties, 'sanity-check', 'passwordid'].map((name) => get(name)),
    ['qom-set', { path: 'o', property: 'loaded', value: true }],
    ['qom-set', { path: 'o', property: 'endpoint', value: 'nowhere' }],
    ['qom-set', { path: 'o', property: 'endpoint', value: 'client' }],
    ['qom-set', { path: 'o', property: 'dir', value: '/elsewhere' }],
    ['qom-set', { path: 'o', property: 'verify-peer', value: false }],
    ...properties.map((name) => get(name)),
    ['object-del', { id: 'o' }],
  ),
  scene(
    'properties of psk',
    ['object-add', { id: 'o', ...psk({ dir: '@DIR@/psk', endpoint: 'server' }) }],
    ['qom-list', { path: '/objects/o' }],
    get('username'),
    ['object-del', { id: 'o' }],
  ),
];

const unix = { type: 'unix', data: { path: '@DIR@/n.sock' } };
const start = (creds: string, more: object = {}): CommandPair => [
  'nbd-server-start',
  { addr: unix, 'tls-creds': creds, ...more },
];

const starting: readonly Case[] = [
  ...['nope', 'password', 'c'].map((creds) => scene(`started with ${creds}`, start(creds))),
  scene('started with t', start('t'), 'nbd-server-stop'),
  scene(
    'started with a list that there is not',
    start('t', { 'tls-authz': 'nope' }),
    'nbd-server-stop',
  ),
  scene(
    'deleted while in use',
    start('t'),
    ['object-del', { id: 't' }],
    'nbd-server-stop',
    start('t'),
  ),
];

const startTls = (): Step => option('c', NBD_OPT_STARTTLS);
const tlsStep = (more: object = {}): Step => ({ do: 'tls', on: 'c', ...more });
const list = (): Step => option('c', NBD_OPT_LIST);
const read: Step = { do: 'requests', on: 'c', requests: [{ type: 0, length: 16 }] };
const by = (certificate: string): Step => tlsStep({ certificate });
const greeted = (id: string, ...steps: readonly Step[]): Case =>
  scene(id, nbd(hello('c', NBD_FLAGS), ...steps));

const before: readonly Case[] = [
  ...[NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_STRUCTURED_REPLY, 4, 99].map((number) =>
    handshake(`option ${number} before TLS`, option('c', number), list()),
  ),
  handshake('go before TLS', go('c', 'n')),
  handshake('abort before TLS', option('c', NBD_OPT_ABORT), {
    do: 'bytes',
    on: 'c',
    bytes: new Uint8Array(),
    hears: 'the end',
  }),
  handshake('export name before TLS', { do: 'export name', on: 'c', name: 'n', zeroes: false }),
  handshake('starttls with data', option('c', NBD_OPT_STARTTLS, Buffer.from('x'))),
  scene('an old client before TLS', nbd(hello('c', 0), option('c', NBD_OPT_LIST))),
  greeted('something else after starttls', startTls(), {
    do: 'bytes',
    on: 'c',
    bytes: Buffer.from('GET / HTTP/1.0\r\n\r\n'),
    hears: 'the end',
  }),
  greeted('options in the clear behind starttls', {
    do: 'bytes',
    on: 'c',
    hears: 'the end',
    bytes: Buffer.from('IHAVEOPT\0\0\0\x05\0\0\0\0IHAVEOPT\0\0\0\x03\0\0\0\0'),
  }),
];

const under: readonly Case[] = [
  ...(['TLSv1.2', 'TLSv1.3'] as const).map((version) =>
    greeted(
      `everything under ${version}`,
      startTls(),
      tlsStep({ certificate: 'client', version }),
      list(),
      go('c', 'n'),
      read,
    ),
  ),
  greeted('starttls twice', startTls(), by('client'), startTls(), list()),
  greeted(
    'starttls with data under TLS',
    startTls(),
    by('client'),
    option('c', NBD_OPT_STARTTLS, Buffer.from('x')),
    list(),
  ),
  greeted('a name that is not on the list', startTls(), by('client-denied'), list()),
  greeted('no certificate', startTls(), tlsStep(), list()),
  greeted('an expired certificate', startTls(), by('client-expired'), list()),
  greeted('a certificate of another authority', startTls(), by('client-other'), list()),
  greeted('a certificate for servers', startTls(), by('client-server'), list()),
  greeted('a revoked certificate', startTls(), by('client-revoked'), list()),
];

const users: readonly Case[] = (['TLSv1.2', 'TLSv1.3'] as const).flatMap((version) => [
  greeted(
    `alice under ${version}`,
    startTls(),
    tlsStep({ psk: { user: 'alice', key: PSK }, version }),
    list(),
  ),
  greeted(
    `alice with a wrong key under ${version}`,
    startTls(),
    tlsStep({ psk: { user: 'alice', key: OTHER_PSK }, version }),
    list(),
  ),
  greeted(
    `bob under ${version}`,
    startTls(),
    tlsStep({ psk: { user: 'bob', key: PSK }, version }),
    list(),
  ),
]);

/** Objects that a server uses, taken away and made anew. */
const inUse: readonly Case[] = [
  scene(
    'deleted while the server uses them',
    ['object-del', { id: 't' }],
    ['object-del', { id: 'z' }],
    ['qom-list', { path: '/objects' }],
  ),
  greeted('the credentials are good still, the list is gone', startTls(), by('client'), list()),
  scene('made anew, for others and for the other end', [
    'object-add',
    { 'qom-type': 'tls-creds-x509', id: 't', dir: '@DIR@/client', endpoint: 'client' },
  ]),
  scene('a list again', [
    'object-add',
    {
      'qom-type': 'authz-simple',
      id: 'z',
      identity: 'C=GB,O=Example\\, Inc,CN=client1',
    },
  ]),
  greeted(
    'the new list counts, the new credentials do not',
    startTls(),
    by('client'),
    list(),
    option('c', NBD_OPT_ABORT),
  ),
  scene(
    'a secret for a list',
    ['object-del', { id: 'z' }],
    ['object-add', { 'qom-type': 'secret', id: 'z', data: 'x' }],
  ),
  greeted('is none', startTls(), by('client'), list()),
];

const node = ['--blockdev', 'null-co,node-name=n,size=65536,read-zeroes=on'];
const server = (creds: string): string[] => [
  ...node,
  '--nbd-server',
  `addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=${creds}`,
  '--export',
  'nbd,id=e,node-name=n,name=n',
];
const object = (...options: readonly string[]): string[] =>
  options.flatMap((text) => ['--object', text]);
const secrets = object('secret,id=password,data=sesame', 'secret,id=wrong,data=open');

export const tls: Area = {
  name: 'tls',
  groups: [
    { name: 'objects', files, arguments: secrets, cases: adding },
    { name: 'object tree', files, cases: tree },
    {
      name: 'nbd-server-start',
      files,
      arguments: [
        ...secrets,
        ...object(
          'tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server',
          'tls-creds-x509,id=c,dir=@DIR@/client,endpoint=client',
        ),
      ],
      cases: starting,
    },
    {
      name: 'before TLS',
      files,
      arguments: [...object('tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server'), ...server('t')],
      cases: before,
    },
    {
      name: 'with certificates',
      files,
      arguments: [
        ...object(
          'tls-creds-x509,id=t,dir=@DIR@/crl,endpoint=server',
          'authz-list,id=z,policy=deny,rules.0.match=*CN=client1,rules.0.policy=allow,rules.0.format=glob',
        ),
        ...server('t,tls-authz=z'),
      ],
      cases: under,
    },
    {
      name: 'with a list that there is not',
      files,
      arguments: [
        ...object('tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server'),
        ...server('t,tls-authz=z'),
      ],
      cases: [greeted('anybody', startTls(), by('client'), list())],
    },
    {
      name: 'with objects that go',
      files,
      arguments: [
        ...object(
          'tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server',
          'authz-list,id=z,policy=allow',
        ),
        ...server('t,tls-authz=z'),
      ],
      cases: inUse,
    },
    {
      name: 'without verification',
      files,
      arguments: [
        ...object('tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server,verify-peer=off'),
        ...server('t,tls-authz=z'),
      ],
      cases: [
        greeted('anybody', startTls(), tlsStep(), list()),
        greeted('a stranger', startTls(), by('client-other'), list()),
      ],
    },
    {
      name: 'with a useless priority',
      files,
      arguments: [
        ...object('tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server,priority=bogus'),
        ...server('t'),
      ],
      cases: [greeted('anybody', startTls(), by('client'))],
    },
    {
      name: 'with nothing but suites',
      files,
      arguments: [
        ...object('tls-cipher-suites,id=t,priority=NORMAL,endpoint=server'),
        ...server('t'),
      ],
      cases: [greeted('nobody', startTls(), by('client'))],
    },
    {
      name: 'with TLS 1.2 only',
      files,
      arguments: [
        ...object(
          'tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server,priority=NORMAL:-VERS-TLS1.3',
        ),
        ...server('t'),
      ],
      cases: [
        greeted('a client that can both', startTls(), by('client'), list()),
        greeted(
          'a client that can only 1.3',
          startTls(),
          tlsStep({ certificate: 'client', version: 'TLSv1.3' }),
        ),
      ],
    },
    {
      name: 'with keys',
      files,
      arguments: [...object('tls-creds-psk,id=t,dir=@DIR@/psk,endpoint=server'), ...server('t')],
      cases: users,
    },
  ],
  commandLines: [
    ...[
      'tls-creds-x509',
      'tls-creds-psk',
      'tls-creds-anon',
      'tls-cipher-suites',
      'secret_keyring',
      'authz-list-file',
    ].map((type) => ({
      id: `--object ${type},help`,
      arguments: ['--object', `${type},help`],
    })),
    {
      id: '--nbd-server with credentials for the other end',
      files,
      arguments: [
        '--object',
        'tls-creds-x509,id=c,dir=@DIR@/client',
        '--nbd-server',
        'addr.type=unix,addr.path=n.sock,tls-creds=c',
      ],
    },
    {
      id: '--chardev with TLS on a unix socket',
      files,
      arguments: [
        '--object',
        'tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server',
        '--chardev',
        'socket,id=c,path=x,server=on,wait=off,tls-creds=t',
      ],
    },
    {
      id: '--chardev with credentials for the other end',
      files,
      arguments: [
        '--object',
        'tls-creds-x509,id=t,dir=@DIR@/good,endpoint=server',
        '--chardev',
        'socket,id=c,host=127.0.0.1,port=1,tls-creds=t',
      ],
    },
  ],
};
