// The object type `tls-creds-psk`: TLS with keys that both ends know, in a file of lines `USER:KEY`.

import type { PskMaterial } from '../base/tls-credentials.ts';
import { QmpError } from '../qapi/errors.ts';
import {
  dhParamsPath,
  requiredPath,
  type TlsCreds,
  tlsCredsFrom,
  tlsCredsProperties,
} from './tls-creds.ts';
import type * as Files from './tls-creds-files.ts';
import type { UserObjectType } from './user-object.ts';

export interface TlsCredsPsk extends TlsCreds {
  username: string | undefined;
}

const KEY_FILE = 'keys.psk';
/** Who a client is that does not say so. */
const DEFAULT_USER = 'qemu';

export const tlsCredsPsk: UserObjectType<'tls-creds-psk', TlsCredsPsk> = {
  name: 'tls-creds-psk',
  parent: 'tls-creds',
  properties: [
    ...tlsCredsProperties,
    {
      name: 'username',
      type: 'string',
      get: ({ username }) => username ?? '',
      set: (state, value) => {
        state.username = value as string;
      },
    },
    { name: 'loaded', type: 'bool', get: () => true },
  ],
  create: async (options) => {
    const files = await import('./tls-creds-files.ts');
    const common = { ...tlsCredsFrom(options), username: options.username };
    const state: TlsCredsPsk = {
      ...common,
      material: materialOf(common, files),
      reload() {
        this.material = materialOf(this, files);
      },
    };
    return state;
  },
};

function materialOf(
  { endpoint, dir, username }: Pick<TlsCredsPsk, 'endpoint' | 'dir' | 'username'>,
  { readDhParams, readText }: typeof Files,
): PskMaterial {
  if (endpoint === 'client') {
    const path = requiredPath(dir, KEY_FILE);
    const name = username ?? DEFAULT_USER;
    const digits = keyDigits(readText(path, `Cannot read PSK file ${path}: `), name);
    if (digits === undefined) {
      throw new QmpError(`Username ${name} not found in PSK file ${path}`);
    }
    const key = keyFrom(digits);
    if (key === undefined) {
      const reason = 'Parsing error in password/key file.';
      throw new QmpError(`Cannot set PSK client credentials: ${reason}`);
    }
    return { kind: 'psk', username: name, keyOf: (user) => (user === name ? key : undefined) };
  }
  if (username !== undefined) {
    throw new QmpError('username should not be set when endpoint=server');
  }
  const dhPath = dhParamsPath(dir);
  const path = requiredPath(dir, KEY_FILE);
  const dhParams = readDhParams(dhPath);
  return {
    kind: 'psk',
    ...(dhParams === undefined ? {} : { dhParams }),
    // As in the reference the file is read for each connection.
    keyOf: (user) => {
      const digits = keyDigits(readText(path, ''), user);
      return digits === undefined ? undefined : keyFrom(digits);
    },
  };
}

function keyDigits(text: string, user: string): string | undefined {
  const prefix = `${Buffer.from(user).toString('latin1')}:`;
  const line = text.split('\n').find((candidate) => candidate.startsWith(prefix));
  return line?.slice(prefix.length);
}

function keyFrom(digits: string): Buffer | undefined {
  const hexadecimal = /^(?:[\da-fA-F]{2})+$/.test(digits);
  return hexadecimal ? Buffer.from(digits, 'hex') : undefined;
}
