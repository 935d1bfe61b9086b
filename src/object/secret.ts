// The object type `secret`: a password or key, given as it is, in base64, or encrypted with another secret (AES-256-CBC).

import { closeSync, openSync, readFileSync } from 'node:fs';
import { errnoOf, strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';
import type { QCryptoSecretFormat, SecretCommonProperties } from '../qapi/generated/types.ts';
import { encodeText } from '../qapi/modified-utf8.ts';
import { decodeBase64 } from './base64.ts';
import type { ObjectLookup, ObjectProperty, OptionsOf, UserObjectType } from './user-object.ts';

/** What all kinds of secret have in common. */
export interface SecretCommon {
  format: QCryptoSecretFormat;
  keyid: string | undefined;
  iv: string | undefined;
  /** What the secret is, decoded and decrypted when it was made; setting properties later does not change it. */
  readonly bytes: Buffer;
}

export interface Secret extends SecretCommon {
  data: string | undefined;
  file: string | undefined;
}

const KEY_BYTES = 32;
const BLOCK_BYTES = 16;

/** The parent type's properties, in the order of qom-list. */
export const secretProperties: readonly ObjectProperty<SecretCommon>[] = [
  text<SecretCommon>('iv'),
  text<SecretCommon>('keyid'),
  { name: 'loaded', type: 'bool', get: () => true },
  {
    name: 'format',
    type: 'QCryptoSecretFormat',
    get: ({ format }) => format,
    set: (state, value) => {
      state.format = value as QCryptoSecretFormat;
    },
  },
];

export const secret: UserObjectType<'secret', Secret> = {
  name: 'secret',
  parent: 'secret_common',
  properties: [...secretProperties, text<Secret>('file'), text<Secret>('data')],
  create: (options, { objects }) => {
    const { data, file } = options;
    return { data, file, ...secretFrom(inputOf(options), options, objects) };
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
  if (object.type.parent !== 'secret_common') {
    throw new QmpError(`Object with id '${id}' is not a secret`);
  }
  return (object.state as SecretCommon).bytes;
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

/** What `input` stands for, according to the options of the parent type. Throws QmpError. */
export function secretFrom(
  input: Buffer,
  options: SecretCommonProperties,
  objects: ObjectLookup,
): SecretCommon {
  const { format = 'raw', keyid, iv } = options;
  let bytes = input;
  if (keyid !== undefined) bytes = decrypt(input, options, keyid, objects);
  else if (format === 'base64') bytes = decodeBase64(input);
  return { format, keyid, iv, bytes };
}

function inputOf({ data, file }: OptionsOf<'secret'>): Buffer {
  if (file === undefined) {
    if (data === undefined) throw new QmpError(`Either 'file' or 'data' must be provided`);
    return encodeText(data);
  }
  if (data !== undefined) throw new QmpError(`'file' and 'data' are mutually exclusive`);
  return readSecretFile(file);
}

function readSecretFile(path: string): Buffer {
  const failure = (what: string, error: unknown) => {
    const reason = strerror(errnoOf(error));
    return new QmpError(`Unable to read ${path}: ${what} “${path}”: ${reason}`);
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
  { iv, format }: SecretCommonProperties,
  keyid: string,
  objects: ObjectLookup,
): Buffer {
  const key = secretBytes(keyid, objects);
  if (key.length !== KEY_BYTES) throw new QmpError('Key should be 32 bytes in length');
  if (iv === undefined) throw new QmpError('IV is required to decrypt secret');
  const vector = decodeBase64(encodeText(iv));
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

function text<State extends { [Name in keyof State]: unknown }>(
  name: keyof State & string,
): ObjectProperty<State> {
  return {
    name,
    type: 'string',
    get: (state) => (state[name] as string | undefined) ?? '',
    set: (state, value) => {
      state[name] = value as State[keyof State & string];
    },
  };
}
