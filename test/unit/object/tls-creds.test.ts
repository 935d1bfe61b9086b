import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Logger } from '../../../src/base/log.ts';
import type { PskMaterial, X509Material } from '../../../src/base/tls-credentials.ts';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { reloadTlsCredentials, tlsCredentials } from '../../../src/object/tls-creds.ts';
import { tempDir } from '../../helpers/temp-dir.ts';
import {
  type CredentialFiles,
  clientFiles,
  contentOf,
  fixture,
  PSK,
  pskFiles,
  serverFiles,
  writeCredentials,
} from '../../helpers/tls-files.ts';

const log: Logger = { error: (text) => logged.push(text), warn() {}, debug() {} };
let logged: string[] = [];

function registry(): ObjectRegistry {
  logged = [];
  const objects = new ObjectRegistry({ log });
  onTestFinished(() => objects.close());
  return objects;
}

interface Making {
  readonly endpoint?: 'client' | 'server';
  readonly more?: object;
}

/** Makes x509 credentials of the files: their directory, and what is said with `DIR` for it. */
async function made(files: CredentialFiles, { endpoint = 'server', more = {} }: Making = {}) {
  const dir = writeCredentials(tempDir(), files);
  const objects = registry();
  await objects.add({ 'qom-type': 'secret', id: 'password', data: 'sesame' });
  await objects.add({ 'qom-type': 'secret', id: 'wrong', data: 'open' });
  const said = await Promise.resolve(
    objects.add({ 'qom-type': 'tls-creds-x509', id: 't', dir, endpoint, ...more }),
  ).then(
    () => 'made',
    (error: Error) => error.message.replaceAll(dir, 'DIR'),
  );
  return { dir, objects, said };
}

const server = (certificate: string): CredentialFiles => ({
  ...serverFiles,
  'server-cert.pem': certificate,
});
const authority = (certificate: string): CredentialFiles => ({
  ...serverFiles,
  'ca-cert.pem': certificate,
});

describe('tls-creds-x509', () => {
  it('reads what a server needs', async () => {
    const { objects, said } = await made({ ...serverFiles, 'ca-crl.pem': 'ca-crl.pem' });
    expect(said).toBe('made');
    const material = tlsCredentials('t', 'server', objects).material as X509Material;
    expect(material.ca.trim()).toBe(fixture('ca-cert.pem').trim());
    expect(material.own?.key).toBe(fixture('server-key.pem'));
    expect(material.revoked.map(({ serials }) => [...serials])).toEqual([['66']]);
  });

  it('lets a client be without a certificate', async () => {
    const { objects, said } = await made({ 'ca-cert.pem': 'ca-cert.pem' }, { endpoint: 'client' });
    expect(said).toBe('made');
    expect(tlsCredentials('t', 'client', objects).material).not.toHaveProperty('own');
  });

  it.each([
    [authority('ca-expired-cert.pem'), 'The CA certificate DIR/ca-cert.pem has expired'],
    [authority('ca-future-cert.pem'), 'The CA certificate DIR/ca-cert.pem is not yet active'],
    [server('server-expired-cert.pem'), 'The server certificate DIR/server-cert.pem has expired'],
    [
      server('server-future-cert.pem'),
      'The server certificate DIR/server-cert.pem is not yet active',
    ],
    [
      authority('ca-leaf-cert.pem'),
      'The certificate DIR/ca-cert.pem basic constraints do not show a CA',
    ],
    [
      authority('ca-unsigning-cert.pem'),
      'Certificate DIR/ca-cert.pem usage does not permit certificate signing',
    ],
    [
      server('server-ca-cert.pem'),
      'The certificate DIR/server-cert.pem basic constraints show a CA, but we need one for a server',
    ],
    [
      server('server-unsigning-cert.pem'),
      'Certificate DIR/server-cert.pem usage does not permit digital signature',
    ],
    [
      authority('other-cert.pem'),
      "Our own certificate DIR/server-cert.pem failed validation against DIR/ca-cert.pem: The certificate hasn't got a known issuer",
    ],
  ])(
    'refuses certificates that no peer could accept (%#), unless told not to look',
    async (files, text) => {
      expect((await made(files)).said).toBe(text);
      expect((await made(files, { more: { 'sanity-check': false } })).said).toBe('made');
    },
  );

  const pair = "Cannot load certificate 'DIR/server-cert.pem' & key 'DIR/server-key.pem': ";
  it.each([
    [
      { ...serverFiles, 'server-key.pem': 'other-key.pem' },
      `${pair}The certificate and the given key do not match.`,
    ],
    [
      { ...serverFiles, 'server-key.pem': 'text:junk' },
      `${pair}The requested data were not available.`,
    ],
    [
      server('text:junk'),
      'Unable to import server certificate DIR/server-cert.pem: Base64 unexpected header error.',
    ],
    [authority('text:'), 'Unable to import CA certificate list DIR/ca-cert.pem'],
    [
      { ...serverFiles, 'ca-crl.pem': 'text:junk' },
      "Cannot load CRL 'DIR/ca-crl.pem': Base64 decoding error.",
    ],
    [
      { ...serverFiles, 'dh-params.pem': 'text:junk' },
      'Unable to load DH parameters from DIR/dh-params.pem: Base64 unexpected header error.',
    ],
    [{}, 'Unable to access credentials DIR/ca-cert.pem: No such file or directory'],
  ])('refuses files that cannot be used (%#)', async (files, text) => {
    expect((await made(files)).said).toBe(text);
  });

  it('decrypts a key with a secret', async () => {
    const files = { ...serverFiles, 'server-key.pem': 'server-encrypted-key.pem' };
    const wrong = `${pair}Decryption has failed.`;
    expect((await made(files, { more: { passwordid: 'password' } })).said).toBe('made');
    expect((await made(files, { more: { passwordid: 'wrong' } })).said).toBe(wrong);
    expect((await made(files)).said).toBe(wrong);
    expect((await made(files, { more: { passwordid: 'nope' } })).said).toBe(
      "No secret with id 'nope'",
    );
  });

  it('leaves nothing behind when it cannot be made', async () => {
    const { objects } = await made({});
    expect(objects.find('t')).toBeUndefined();
    expect(objects.ids()).toEqual(expect.not.arrayContaining(['t']));
  });

  it('needs a directory', async () => {
    const objects = registry();
    await expect(objects.add({ 'qom-type': 'tls-creds-x509', id: 't' })).rejects.toThrow(
      "Missing 'dir' property value",
    );
  });

  it('reads its files again on request, and keeps the old when they do not fit together', async () => {
    const { dir, objects } = await made(serverFiles);
    const credentials = tlsCredentials('t', 'server', objects);
    const before = credentials.material;
    writeFileSync(path.join(dir, 'server-cert.pem'), fixture('server-next-cert.pem'));
    reloadTlsCredentials('t', objects);
    const after = credentials.material as X509Material;
    expect(after).not.toBe(before);
    expect(after.own?.cert.trim()).toBe(fixture('server-next-cert.pem').trim());
    writeFileSync(path.join(dir, 'server-key.pem'), fixture('other-key.pem'));
    expect(() => reloadTlsCredentials('t', objects)).toThrow('do not match');
    expect(credentials.material).toBe(after);
  });

  it('reads its files again by itself when it watches them', async () => {
    const { dir, objects } = await made(serverFiles, { more: { 'x-watch': true } });
    const credentials = tlsCredentials('t', 'server', objects);
    const before = credentials.material;
    writeFileSync(path.join(dir, 'server-cert.pem'), fixture('server-next-cert.pem'));
    await expect.poll(() => credentials.material).not.toBe(before);
    writeFileSync(path.join(dir, 'server-cert.pem'), 'junk');
    await expect.poll(() => logged).toHaveLength(1);
    expect(logged[0]).toMatch(/^Unable to reload TLS credentials 't': Unable to import server/);
  });
});

describe('tls-creds-psk', () => {
  const psk = (dir: string, more: object = {}) =>
    ({ 'qom-type': 'tls-creds-psk', id: 'p', dir, ...more }) as const;

  it('finds the key of a user when one comes, as the file is then', async () => {
    const dir = writeCredentials(tempDir(), pskFiles);
    const objects = registry();
    await objects.add(psk(dir, { endpoint: 'server' }));
    const material = tlsCredentials('p', 'server', objects).material as PskMaterial;
    const keyOf = (user: string) => material.keyOf(user);
    expect(keyOf('alice')?.toString('hex')).toBe(PSK);
    expect(keyOf('bob')).toBeUndefined();
    expect(keyOf('ali')).toBeUndefined();
    writeFileSync(path.join(dir, 'keys.psk'), `${contentOf(`text:bob:${PSK}`)}\nmallory:xyz\n`);
    expect(keyOf('bob')?.toString('hex')).toBe(PSK);
    expect(keyOf('alice')).toBeUndefined();
    expect(keyOf('mallory')).toBeUndefined();
    rmSync(path.join(dir, 'keys.psk'));
    expect(() => keyOf('bob')).toThrow('No such file or directory');
  });

  it('needs the user of a client, and none for a server', async () => {
    const dir = writeCredentials(tempDir(), pskFiles);
    const objects = registry();
    await expect(objects.add(psk(dir))).rejects.toThrow(
      `Username qemu not found in PSK file ${dir}/keys.psk`,
    );
    await expect(objects.add(psk(dir, { endpoint: 'server', username: 'alice' }))).rejects.toThrow(
      'username should not be set when endpoint=server',
    );
    await objects.add(psk(dir, { username: 'alice' }));
    expect(tlsCredentials('p', 'client', objects).material).toMatchObject({ username: 'alice' });
  });
});

describe('tlsCredentials', () => {
  it('finds only credentials, and for the right end', async () => {
    const { objects } = await made(clientFiles(), { endpoint: 'client' });
    expect(() => tlsCredentials('nope', 'server', objects)).toThrow(
      "No TLS credentials with id 'nope'",
    );
    expect(() => tlsCredentials('password', 'server', objects)).toThrow(
      "Object with id 'password' is not TLS credentials",
    );
    expect(() => tlsCredentials('t', 'server', objects)).toThrow(
      'Expected TLS credentials for a server endpoint',
    );
  });
});
