import { createCipheriv } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { secretBytes } from '../../../src/object/secret.ts';
import { tlsCredentials } from '../../../src/object/tls-creds.ts';
import { libc } from '../../../src/sys/libc.ts';
import { ioBufferOver } from '../../../src/sys/memory.ts';
import { tempDir } from '../../helpers/temp-dir.ts';
import { serverFiles, writeCredentials } from '../../helpers/tls-files.ts';

/** Numbers of add_key(2) and keyctl(2), by process.arch. */
const systemCalls: Readonly<Record<string, { add: number; control: number }>> = {
  x64: { add: 248, control: 250 },
  arm64: { add: 217, control: 219 },
};
const KEY_SPEC_PROCESS_KEYRING = -2;
const KEYCTL_REVOKE = 3;

const keyring = (serial: number) => ({ 'qom-type': 'secret_keyring', id: 'k', serial }) as const;

/** Gives the kernel a key, which is this process's own: its serial number, or undefined where there is no such thing. */
function addKey(payload: Buffer): number | undefined {
  const call = systemCalls[process.arch]?.add;
  if (call === undefined) return undefined;
  const type = ioBufferOver(Buffer.from('user\0'));
  const name = ioBufferOver(Buffer.from(`qmp-storage-daemon-test-${Math.random()}\0`));
  const { address } = ioBufferOver(payload);
  const [length, ring] = [payload.length, KEY_SPEC_PROCESS_KEYRING];
  const serial = libc.syscallOfNumbers(call, type.address, name.address, address, length, ring);
  return serial < 0 ? undefined : serial;
}

function revoke(serial: number): void {
  libc.syscallOfNumbers(systemCalls[process.arch]?.control ?? 0, KEYCTL_REVOKE, serial, 0, 0, 0);
}

function key(payload: Buffer | string): number {
  const serial = addKey(Buffer.from(payload));
  if (serial === undefined) throw new Error('the kernel takes no key');
  onTestFinished(() => revoke(serial));
  return serial;
}

const probe = addKey(Buffer.from('probe'));
if (probe !== undefined) revoke(probe);
const reason = probe === undefined ? ' (left out: the kernel keeps no keys for us)' : '';

describe.skipIf(probe === undefined)(`secret_keyring with a key${reason}`, () => {
  it('is what the kernel keeps, whatever bytes they are', async () => {
    const objects = new ObjectRegistry();
    const payload = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    const serial = key(payload);
    await objects.add(keyring(serial));
    expect(secretBytes('k', objects).equals(payload)).toBe(true);
    revoke(serial);
    // It was read once.
    expect(secretBytes('k', objects).equals(payload)).toBe(true);
  });

  it('is decoded and decrypted as other secrets are', async () => {
    const objects = new ObjectRegistry();
    const master = Buffer.from('0123456789abcdef0123456789abcdef');
    const iv = Buffer.from('0123456789abcdef');
    await objects.add({ ...keyring(key(master)), id: 'master' });
    const cipher = createCipheriv('aes-256-cbc', master, iv);
    const encrypted = Buffer.concat([cipher.update('letmein'), cipher.final()]);
    await objects.add({
      ...keyring(key(encrypted.toString('base64'))),
      format: 'base64',
      keyid: 'master',
      iv: iv.toString('base64'),
    });
    expect(secretBytes('k', objects).toString()).toBe('letmein');
  });

  it('opens the key of a certificate', async () => {
    const objects = new ObjectRegistry();
    onTestFinished(() => objects.close());
    await objects.add(keyring(key('sesame')));
    const files = { ...serverFiles, 'server-key.pem': 'server-encrypted-key.pem' };
    const dir = writeCredentials(tempDir(), files);
    const options = { dir, endpoint: 'server', passwordid: 'k' } as const;
    await objects.add({ 'qom-type': 'tls-creds-x509', id: 't', ...options });
    expect(tlsCredentials('t', 'server', objects).material.kind).toBe('x509');
  });

  it('says when a key cannot be read any more', async () => {
    const serial = key('x');
    revoke(serial);
    await expect(new ObjectRegistry().add(keyring(serial))).rejects.toThrow(
      `Unable to read serial key ${serial.toString(16).padStart(8, '0')}: Key has been revoked`,
    );
  });
});

describe('secret_keyring', () => {
  it('says which key it cannot read, and why', async () => {
    await expect(new ObjectRegistry().add(keyring(0x7ffffff1))).rejects.toThrow(
      /^Unable to read serial key 7ffffff1: (?:Required key not available|Function not implemented|Operation not permitted)$/,
    );
    await expect(new ObjectRegistry().add(keyring(-1))).rejects.toThrow(
      /^Unable to read serial key ffffffff: /,
    );
  });

  it('needs a serial number', async () => {
    await expect(new ObjectRegistry().add(keyring(0))).rejects.toThrow(
      "'serial' should not be equal to 0",
    );
  });
});
