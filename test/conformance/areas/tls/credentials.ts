// Credentials as objects: what is refused, and what they show.

import { type Case, scene } from '../../case.ts';
import { directories, psk, x509 } from './steps.ts';

const tryAdd = (id: string, options: object): Case =>
  scene(id, ['object-add', { id: 'o', ...options }], ['object-del', { id: 'o' }]);

export const adding: readonly Case[] = [
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
