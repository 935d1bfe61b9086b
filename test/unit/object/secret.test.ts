import { createCipheriv } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { secretBytes, secretText } from '../../../src/object/secret.ts';
import type { SecretProperties } from '../../../src/qapi/generated/types.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

const KEY = Buffer.from('0123456789abcdef0123456789abcdef');
const IV = Buffer.from('0123456789abcdef');

function withKey(): ObjectRegistry {
  const objects = new ObjectRegistry();
  void objects.add({
    'qom-type': 'secret',
    id: 'key',
    format: 'base64',
    data: KEY.toString('base64'),
  });
  void objects.add({ 'qom-type': 'authz-simple', id: 'other', identity: 'me' });
  void objects.add({ 'qom-type': 'secret', id: 'short', data: 'x' });
  return objects;
}

function secretOf(options: SecretProperties): string {
  const objects = withKey();
  void objects.add({ 'qom-type': 'secret', id: 's', ...options });
  return secretBytes('s', objects).toString('latin1');
}

function encrypted(text: string): Buffer {
  const cipher = createCipheriv('aes-256-cbc', KEY, IV);
  return Buffer.concat([cipher.update(text), cipher.final()]);
}

describe('secret', () => {
  it('is its data, or what a file holds', () => {
    expect(secretOf({ data: 'password' })).toBe('password');
    const file = path.join(tempDir(), 'secret');
    writeFileSync(file, 'with\0zero\n');
    expect(secretOf({ file })).toBe('with\0zero\n');
  });

  it('has a NUL of JSON in two bytes, as the reference', () => {
    expect(secretOf({ data: 'a\0b' })).toBe('a\xc0\x80b');
    const inJson = () => secretOf({ data: 'AA\0A', format: 'base64' });
    expect(inJson).toThrow('Base64 data contains invalid characters');
    const file = path.join(tempDir(), 'secret');
    writeFileSync(file, 'AA\0A');
    const inFile = () => secretOf({ file, format: 'base64' });
    expect(inFile).toThrow('Base64 data contains embedded NUL characters');
  });

  it('is decoded from base64 as GLib decodes it', () => {
    expect(secretOf({ data: 'cGFzcw==', format: 'base64' })).toBe('pass');
    expect(secretOf({ data: 'cGFz\ncw==\n', format: 'base64' })).toBe('pass');
    expect(secretOf({ data: 'cGFzcw', format: 'base64' })).toBe('pas');
    expect(secretOf({ data: '', format: 'base64' })).toBe('');
  });

  it('is decrypted with another secret', () => {
    const common = { keyid: 'key', iv: IV.toString('base64') };
    const data = encrypted('letmein').toString('base64');
    expect(secretOf({ ...common, data, format: 'base64' })).toBe('letmein');
    const file = path.join(tempDir(), 'secret');
    writeFileSync(file, encrypted('from a file, more than one block'));
    expect(secretOf({ ...common, file })).toBe('from a file, more than one block');
  });

  const iv = IV.toString('base64');
  it.each<[SecretProperties, string]>([
    [{}, `Either 'file' or 'data' must be provided`],
    [{ data: 'a', file: 'b' }, `'file' and 'data' are mutually exclusive`],
    [
      { file: '/nope' },
      'Unable to read /nope: Failed to open file “/nope”: No such file or directory',
    ],
    [
      { file: '/etc/hostname\0x' },
      'Unable to read /etc/hostname\0x: Failed to open file “/etc/hostname\0x”: No such file or directory',
    ],
    [{ file: '/tmp' }, 'Unable to read /tmp: Error reading file “/tmp”: Is a directory'],
    [{ data: '!!!!', format: 'base64' }, 'Base64 data contains invalid characters'],
    [{ data: 'x', keyid: 'nope' }, `No secret with id 'nope'`],
    [{ data: 'x', keyid: 'other' }, `Object with id 'other' is not a secret`],
    [{ data: 'x', keyid: 'short' }, 'Key should be 32 bytes in length'],
    [{ data: 'x', keyid: 'key' }, 'IV is required to decrypt secret'],
    [{ data: 'x', keyid: 'key', iv: 'YWJj' }, 'IV should be 16 bytes in length not 3'],
    [{ data: 'x', keyid: 'key', iv }, 'Length 1 must be a multiple of block size 16'],
    [
      { data: '0123456789abcdef', keyid: 'key', iv },
      'Incorrect number of padding bytes (122) found on decrypted data',
    ],
  ])('refuses %j', (options, message) => {
    expect(() => secretOf(options)).toThrow(message);
  });
});

describe('secretText', () => {
  it('refuses what is not UTF-8', () => {
    const objects = new ObjectRegistry();
    void objects.add({ 'qom-type': 'secret', id: 'good', data: 'grün' });
    void objects.add({ 'qom-type': 'secret', id: 'bad', data: '/w==', format: 'base64' });
    expect(secretText('good', objects)).toBe('grün');
    expect(() => secretText('bad', objects)).toThrow('Data from secret bad is not valid UTF-8');
  });
});
