// The object type `secret`: a password or key, given as it is, in base64, or encrypted with another secret (AES-256-CBC).

import { closeSync, openSync, readFileSync } from 'node:fs';
import { strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';
import type { QCryptoSecretFormat } from '../qapi/generated/types.ts';
import { decodeBase64 } from './base64.ts';
import { type ObjectLookup, type OptionsOf, stateOf, type UserObjectType } from './user-object.ts';

export interface Secret {
  data: string | undefined;
  file: string | undefined;
  format: QCryptoSecretFormat;
  keyid: string | undefined;
  iv: string | undefined;
  /** What the secret is, decoded and decrypted when it was made; setting properties later does not change it. */
  readonly bytes: Buffer;
}

const KEY_BYTES = 32;
const BLOCK_BYTES = 16;

export const secret: UserObjectType<'secret', Secret> = {
  name: 'secret',
  parent: 'secret_common',
  properties: [
    text('iv'),
    text('keyid'),
    { name: 'loaded', type: 'bool', get: () => true },
    {
      name: 'format',
      type: 'QCryptoSecretFormat',
      get: ({ format }) => format,
      set: (state, value) => {
        state.format = value as QCryptoSecretFormat;
      },
    },
    text('file'),
    text('data'),
  ],
  create: (options, { objects }) => {
    const { data, file, format = 'raw', keyid, iv } = options;
    return { data, file, format, keyid, iv, bytes: secretFrom(options, objects) };
  },
};

/**
 * The bytes of the secret `id`.
 *
 * @throws QmpError when there is none of that name
 */
export function secretBytes(id: string, objects: ObjectLookup): Buffer {
  const object = objects.find(id);
  if (object === undefined) throw new QmpError(`No secret with id '${id}'`);
  const state = stateOf(object, secret);
  if (state === undefined) throw new QmpError(`Object with id '${id}' is not a secret`);
  return state.bytes;
}

/** The secret `id` as text, for passwords. Throws QmpError when it is not UTF-8. */
export function secretText(id: string, objects: ObjectLookup): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      secretBytes(id, objects),
    );
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new QmpError(`Data from secret ${id} is not valid UTF-8`);
  }
}

function secretFrom(options: OptionsOf<'secret'>, objects: ObjectLookup): Buffer {
  const input = inputOf(options);
  if (options.keyid !== undefined) return decrypt(input, options, options.keyid, objects);
  return options.format === 'base64' ? decodeBase64(input) : input;
}

function inputOf({ data, file }: OptionsOf<'secret'>): Buffer {
  if (file === undefined) {
    if (data === undefined) throw new QmpError(`Either 'file' or 'data' must be provided`);
    return Buffer.from(data);
  }
  if (data !== undefined) throw new QmpError(`'file' and 'data' are mutually exclusive`);
  return readSecretFile(file);
}

function readSecretFile(path: string): Buffer {
  const failure = (what: string, error: unknown) => {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return new QmpError(`Unable to read ${path}: ${what} “${path}”: ${strerror(-errno)}`);
  };
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw failure('Failed to open file', error);
  }
  try {
    return readFileSync(fd);
  } catch (error) {
    throw failure('Error reading file', error);
  } finally {
    closeSync(fd);
  }
}

function decrypt(
  input: Buffer,
  { iv, format }: OptionsOf<'secret'>,
  keyid: string,
  objects: ObjectLookup,
): Buffer {
  const key = secretBytes(keyid, objects);
  if (key.length !== KEY_BYTES) throw new QmpError('Key should be 32 bytes in length');
  if (iv === undefined) throw new QmpError('IV is required to decrypt secret');
  const vector = decodeBase64(Buffer.from(iv));
  if (vector.length !== BLOCK_BYTES) {
    throw new QmpError(`IV should be 16 bytes in length not ${vector.length}`);
  }
  const encrypted = format === 'base64' ? decodeBase64(input) : input;
  if (encrypted.length % BLOCK_BYTES !== 0) {
    throw new QmpError(`Length ${encrypted.length} must be a multiple of block size 16`);
  }
  // The reference reads one byte before its buffer here and, as seen, goes on with an empty secret.
  if (encrypted.length === 0) return Buffer.alloc(0);
  // Loaded here since most daemons never decrypt, and it would cost every start two milliseconds.
  const { createDecipheriv } = process.getBuiltinModule('node:crypto');
  const cipher = createDecipheriv('aes-256-cbc', key, vector).setAutoPadding(false);
  const plain = Buffer.concat([cipher.update(encrypted), cipher.final()]);
  const padding = plain.at(-1) ?? 0;
  if (padding > BLOCK_BYTES) {
    throw new QmpError(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
  }
  return plain.subarray(0, plain.length - padding);
}

function text(name: 'iv' | 'keyid' | 'file' | 'data') {
  return {
    name,
    type: 'string',
    get: (state: Secret) => state[name] ?? '',
    set: (state: Secret, value: unknown) => {
      state[name] = value as string;
    },
  };
}
