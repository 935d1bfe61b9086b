// What the cases of TLS share.

import {
  type CredentialFiles,
  clientFiles,
  pskFiles,
  serverFiles,
} from '../../../helpers/tls-files.ts';
import { type Case, type Step, scene } from '../../case.ts';
import { hello, NBD_FLAGS, NBD_OPT_LIST, NBD_OPT_STARTTLS, nbd, option } from '../../wire-steps.ts';

export const directories: Readonly<Record<string, CredentialFiles>> = {
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

export const x509 = (directory: string, more: object = {}): object => ({
  'qom-type': 'tls-creds-x509',
  dir: `@DIR@/${directory}`,
  endpoint: 'server',
  ...more,
});
export const psk = (more: object): object => ({ 'qom-type': 'tls-creds-psk', ...more });

export const unix = { type: 'unix', data: { path: '@DIR@/n.sock' } };

export const startTls = (): Step => option('c', NBD_OPT_STARTTLS);
export const tlsStep = (more: object = {}): Step => ({ do: 'tls', on: 'c', ...more });
export const list = (): Step => option('c', NBD_OPT_LIST);

export const by = (certificate: string): Step => tlsStep({ certificate });
export const greeted = (id: string, ...steps: readonly Step[]): Case =>
  scene(id, nbd(hello('c', NBD_FLAGS), ...steps));

const node = ['--blockdev', 'null-co,node-name=n,size=65536,read-zeroes=on'];
export const server = (creds: string): string[] => [
  ...node,
  '--nbd-server',
  `addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=${creds}`,
  '--export',
  'nbd,id=e,node-name=n,name=n',
];
export const object = (...options: readonly string[]): string[] =>
  options.flatMap((text) => ['--object', text]);
