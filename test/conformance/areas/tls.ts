// TLS credentials, and the NBD server under TLS.

import { contentOf, OTHER_PSK, PSK } from '../../helpers/tls-files.ts';
import { type Area, ask, type Case, type CommandPair, type FileSetup, scene } from '../case.ts';
import { NBD_OPT_ABORT, option } from '../wire-steps.ts';
import { adding } from './tls/credentials.ts';
import { before, under } from './tls/handshakes.ts';
import {
  by,
  directories,
  greeted,
  list,
  object,
  psk,
  server,
  startTls,
  tlsStep,
  unix,
  x509,
} from './tls/steps.ts';

const files: readonly FileSetup[] = Object.entries(directories).flatMap(([directory, content]) => [
  { name: directory, kind: 'directory' as const },
  ...Object.entries(content).map(([name, source]) => ({
    name: `${directory}/${name}`,
    text: contentOf(source),
  })),
]);

const get = (property: string, path = 'o'): CommandPair => ['qom-get', { path, property }];

const properties = ['endpoint', 'dir', 'verify-peer', 'priority', 'loaded', 'nope'];

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
