// object-add, object-del and the object tree, for the objects that both sides have.

import { type Area, ask, type Case, type CommandPair, scene } from '../case.ts';

const add = (args: object): CommandPair => ['object-add', args];
const del = (id: string): CommandPair => ['object-del', { id }];
/** Refused or added; removed again. */
const tryAdd = (args: object): Case => {
  const asked = ask('object-add', args);
  return { id: asked.id, steps: [...asked.steps, ...scene('', del('o')).steps] };
};
const secret = (more: object = {}): object => ({ 'qom-type': 'secret', id: 'o', ...more });
const list = (more: object = {}): object => ({ 'qom-type': 'authz-list', id: 'o', ...more });
const get = (path: string, property: string): CommandPair => ['qom-get', { path, property }];
const set = (path: string, property: string, value: unknown): CommandPair => [
  'qom-set',
  { path, property, value },
];

const adding: Case[] = [
  ask('object-add'),
  ask('object-add', {}),
  ask('object-add', { id: 'o' }),
  ask('object-add', { 'qom-type': 5 }),
  ask('object-add', { 'qom-type': 'nope', id: 'o' }),
  ask('object-add', { 'qom-type': 'container', id: 'o' }),
  ask('object-add', { 'qom-type': 'secret' }),
  ask('object-add', { 'qom-type': 'secret', id: 5 }),
  ...['1o', '', 'a b', '-o', 'a/b', 'ä'].map((id) =>
    ask('object-add', { 'qom-type': 'secret', id, data: 'x' }),
  ),
  tryAdd(secret()),
  tryAdd(secret({ data: 'x' })),
  tryAdd(secret({ data: '' })),
  tryAdd(secret({ data: 5 })),
  tryAdd(secret({ data: 'x', file: '@DIR@/secret' })),
  tryAdd(secret({ file: '@DIR@/secret' })),
  tryAdd(secret({ file: '@DIR@/nope' })),
  tryAdd(secret({ file: '@DIR@' })),
  tryAdd(secret({ file: '' })),
  tryAdd(secret({ data: 'eHk=', format: 'base64' })),
  tryAdd(secret({ data: '!!', format: 'base64' })),
  tryAdd(secret({ data: 'eHk', format: 'base64' })),
  tryAdd(secret({ data: 'AA\0A', format: 'base64' })),
  tryAdd(secret({ data: 'x', format: 'hex' })),
  tryAdd(secret({ data: 'x', format: 5 })),
  tryAdd(secret({ data: 'é', format: 'raw' })),
  tryAdd(secret({ data: 'x', keyid: 'nope' })),
  tryAdd(secret({ data: 'x', keyid: 'nope', iv: 'AAAAAAAAAAAAAAAAAAAAAA==' })),
  tryAdd(secret({ data: 'x', iv: 'AAAAAAAAAAAAAAAAAAAAAA==' })),
  tryAdd(secret({ data: 'x', bogus: 1 })),
  tryAdd(secret({ bogus: 1 })),
  tryAdd({ 'qom-type': 'authz-simple', id: 'o' }),
  tryAdd({ 'qom-type': 'authz-simple', id: 'o', identity: 'CN=me' }),
  tryAdd({ 'qom-type': 'authz-simple', id: 'o', identity: 5 }),
  tryAdd({ 'qom-type': 'authz-simple', id: 'o', identity: 'CN=me', bogus: 1 }),
  tryAdd(list()),
  tryAdd(list({ policy: 'allow' })),
  tryAdd(list({ policy: 'maybe' })),
  tryAdd(list({ policy: 5 })),
  tryAdd(list({ rules: [] })),
  tryAdd(list({ rules: 5 })),
  tryAdd(list({ rules: [5] })),
  tryAdd(list({ rules: [{}] })),
  tryAdd(list({ rules: [{ match: 'x' }] })),
  tryAdd(list({ rules: [{ match: 'x', policy: 'allow' }] })),
  tryAdd(
    list({
      rules: [
        { match: 'x*', policy: 'deny', format: 'glob' },
        { match: 'y', policy: 'allow', format: 'exact' },
      ],
    }),
  ),
  tryAdd(list({ rules: [{ match: 'x', policy: 'allow', format: 'regex' }] })),
  tryAdd(list({ rules: [{ match: 'x', policy: 'allow', bogus: 1 }] })),
  tryAdd(
    list({
      rules: [
        { match: 'x', policy: 'allow' },
        { match: 5, policy: 'allow' },
      ],
    }),
  ),
  scene('twice', add(secret({ data: 'x' })), add(secret({ data: 'y' })), add(list()), del('o')),
  ask('object-del'),
  ask('object-del', { id: 5 }),
  ask('object-del', { id: 'nope' }),
  ask('object-del', { id: '' }),
  ask('object-del', { id: 'nope', bogus: 1 }),
  scene('deleted twice', add(secret({ data: 'x' })), del('o'), del('o')),
];

const keyed: Case[] = [
  scene(
    'an encrypted secret',
    add({
      'qom-type': 'secret',
      id: 'master',
      data: 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=',
      format: 'base64',
    }),
    add({
      'qom-type': 'secret',
      id: 'o',
      keyid: 'master',
      iv: 'MDEyMzQ1Njc4OWFiY2RlZg==',
      data: 'jAE1mcE6lfY5vIlQC3gXcA==',
      format: 'base64',
    }),
    add({
      'qom-type': 'secret',
      id: 'p',
      keyid: 'master',
      iv: 'MDEy',
      data: 'jAE1mcE6lfY5vIlQC3gXcA==',
      format: 'base64',
    }),
    add({
      'qom-type': 'secret',
      id: 'p',
      keyid: 'master',
      data: 'jAE1mcE6lfY5vIlQC3gXcA==',
      format: 'base64',
    }),
    add({
      'qom-type': 'secret',
      id: 'p',
      keyid: 'master',
      iv: 'MDEyMzQ1Njc4OWFiY2RlZg==',
      data: 'jAE1mcE6',
      format: 'base64',
    }),
    del('o'),
    del('master'),
    add({ 'qom-type': 'secret', id: 'short', data: 'abc' }),
    add({
      'qom-type': 'secret',
      id: 'p',
      keyid: 'short',
      iv: 'MDEyMzQ1Njc4OWFiY2RlZg==',
      data: 'jAE1mcE6lfY5vIlQC3gXcA==',
      format: 'base64',
    }),
  ),
];

const tree: Case[] = [
  ask('qom-list'),
  ask('qom-list', { path: 5 }),
  ask('qom-list', { path: '/nope' }),
  ask('qom-list', { path: '/objects/nope' }),
  ask('qom-list', { path: 'nope' }),
  ask('qom-list', { path: '/objects' }),
  ask('qom-list', { path: '/objects/s' }),
  ask('qom-list', { path: '/objects/a' }),
  ask('qom-list', { path: '/objects/l' }),
  ask('qom-list', { path: 's' }),
  ask('qom-list', { path: 'objects/s' }),
  ask('qom-list', { path: '/objects/' }),
  ask('qom-list', { path: '//objects' }),
  ask('qom-list', { path: '' }),
  ask('qom-get'),
  ask('qom-get', { path: '/objects/s' }),
  ask('qom-get', { property: 'type' }),
  scene(
    'get',
    ...['type', 'data', 'file', 'format', 'keyid', 'iv', 'nope', ''].map((p) =>
      get('/objects/s', p),
    ),
  ),
  scene('get of an authz-simple', ...['type', 'identity', 'nope'].map((p) => get('/objects/a', p))),
  scene('get of an authz-list', ...['type', 'policy', 'rules'].map((p) => get('/objects/l', p))),
  scene(
    'get by a short path',
    get('s', 'type'),
    get('objects/s', 'type'),
    get('nope', 'type'),
    get('/', 'type'),
  ),
  scene(
    'get of unknown objects',
    get('/objects/nope', 'type'),
    get('/nope', 'type'),
    get('', 'type'),
  ),
  ask('qom-set'),
  ask('qom-set', { path: '/objects/a', property: 'identity' }),
  scene('set', set('/objects/a', 'identity', 'CN=you'), get('/objects/a', 'identity')),
  scene('set a wrong type', set('/objects/a', 'identity', 5), get('/objects/a', 'identity')),
  scene(
    'set an enum',
    set('/objects/l', 'policy', 'allow'),
    get('/objects/l', 'policy'),
    set('/objects/l', 'policy', 'zz'),
    set('/objects/l', 'policy', 5),
  ),
  scene(
    'set what cannot be set',
    set('/objects/s', 'type', 'x'),
    set('/objects/s', 'nope', 'x'),
    set('/objects/nope', 'nope', 'x'),
  ),
  scene(
    'set a list',
    set('/objects/l', 'rules', [{ match: 'z', policy: 'deny' }]),
    get('/objects/l', 'rules'),
    set('/objects/l', 'rules', [{ match: 'z' }]),
    set('/objects/l', 'rules', 'x'),
  ),
  scene('set a secret', set('/objects/s', 'data', 'new'), get('/objects/s', 'data')),
  ask('qom-list-properties'),
  ask('qom-list-properties', { typename: 'nope' }),
  ask('qom-list-properties', { typename: 5 }),
  ask('qom-list-properties', { typename: 'secret' }),
  ask('qom-list-properties', { typename: 'authz-simple' }),
  ask('qom-list-properties', { typename: 'authz-list' }),
  ask('qom-list-types', { implements: 5 }),
  ask('qom-list-types', { abstract: 'x' }),
  ask('qom-list-types', { implements: 'nope' }),
  ask('qom-list-types', { implements: 'secret' }),
  ask('qom-list-types', { implements: 'authz-simple' }),
  ask('qom-list-types', { implements: 'secret', abstract: true }),
];

/** What each property is set to, in turn. */
const values: readonly unknown[] = [
  'x',
  true,
  5,
  'server',
  'deny',
  { a: 1 },
  [],
  { 'iops-total': 5 },
];

type ObjectOptions = Readonly<Record<string, unknown>> & { readonly 'qom-type': string };

/** An object, all of its properties, and what comes of setting them to anything. */
const everyProperty = (options: ObjectOptions, names: readonly string[]): Case =>
  scene(
    `every property of ${options['qom-type']}`,
    add({ id: 'o', ...options }),
    ['qom-list', { path: '/objects/o' }],
    ...['type', ...names].flatMap((name) => [
      get('o', name),
      ...values.flatMap((value) => [set('/objects/o', name, value), get('/objects/o', name)]),
    ]),
    del('o'),
  );

const secretNames = ['loaded', 'format', 'keyid', 'iv'];
const credentialNames = ['verify-peer', 'dir', 'endpoint', 'priority'];

const properties: readonly Case[] = [
  everyProperty({ 'qom-type': 'secret', data: 'x' }, [...secretNames, 'data', 'file']),
  everyProperty({ 'qom-type': 'authz-simple', identity: 'CN=a' }, ['identity']),
  everyProperty({ 'qom-type': 'authz-list', policy: 'deny' }, ['policy']),
  everyProperty({ 'qom-type': 'tls-creds-anon', endpoint: 'server' }, [
    ...credentialNames,
    'loaded',
  ]),
  everyProperty({ 'qom-type': 'tls-cipher-suites', priority: 'NORMAL' }, credentialNames),
  everyProperty({ 'qom-type': 'throttle-group', limits: { 'iops-total': 100 } }, [
    'limits',
    'x-iops-total',
    'x-bps-write-max',
    'x-iops-read-max-length',
  ]),
  scene(
    'rules that are none',
    add(list({ rules: [{ match: 'x', policy: 'allow' }] })),
    set('/objects/o', 'rules', [{ match: 'z' }]),
    get('/objects/o', 'rules'),
    set('/objects/o', 'rules', [
      { match: 'b', policy: 'deny' },
      { match: 'a', policy: 'allow' },
    ]),
    get('/objects/o', 'rules'),
    del('o'),
  ),
];

export const objects: Area = {
  name: 'objects',
  groups: [
    { name: 'object-add', files: [{ name: 'secret', text: 'from a file\n' }], cases: adding },
    { name: 'secret with a key', cases: keyed },
    { name: 'properties', cases: properties },
    {
      name: 'object tree',
      arguments: [
        '--object',
        'secret,id=s,data=hush',
        '--object',
        'authz-simple,id=a,identity=CN=me',
        '--object',
        'authz-list,id=l,policy=deny,rules.0.match=x,rules.0.policy=allow,rules.1.match=y*,rules.1.policy=deny,rules.1.format=glob',
      ],
      cases: tree,
    },
  ],
};
