// What the tls-creds object types have in common: properties, where their files are, and how others find them.

import { statSync } from 'node:fs';
import { errnoOf, strerror } from '../base/errno.ts';
import type { TlsCredentials, TlsEndpoint, TlsMaterial } from '../base/tls-credentials.ts';
import { QmpError } from '../qapi/errors.ts';
import type { TlsCredsProperties } from '../qapi/generated/types.ts';
import type { ObjectLookup, ObjectProperty } from './user-object.ts';

/** The state of an object of one of these types. qom-set changes properties, but reads no files again. */
export interface TlsCreds extends TlsCredentials {
  endpoint: TlsEndpoint;
  dir: string | undefined;
  verifyPeer: boolean;
  priority: string | undefined;
  material: TlsMaterial;
  /** Reads the files again; what was read before stays in use when that fails. Throws QmpError. */
  reload(): void;
}

const DH_PARAMS = 'dh-params.pem';

/** The parent type's properties, in the order of qom-list. */
export const tlsCredsProperties: readonly ObjectProperty<TlsCreds>[] = [
  {
    name: 'endpoint',
    type: 'QCryptoTLSCredsEndpoint',
    get: ({ endpoint }) => endpoint,
    set: (state, value) => {
      state.endpoint = value as TlsEndpoint;
    },
  },
  {
    name: 'dir',
    type: 'string',
    get: ({ dir }) => dir ?? '',
    set: (state, value) => {
      state.dir = value as string;
    },
  },
  {
    name: 'verify-peer',
    type: 'bool',
    get: ({ verifyPeer }) => verifyPeer,
    set: (state, value) => {
      state.verifyPeer = value as boolean;
    },
  },
  {
    name: 'priority',
    type: 'string',
    get: ({ priority }) => priority ?? '',
    set: (state, value) => {
      state.priority = value as string;
    },
  },
];

/** The state that the options of the parent type say. */
export function tlsCredsFrom(options: TlsCredsProperties): Omit<TlsCreds, 'material' | 'reload'> {
  return {
    endpoint: options.endpoint ?? 'client',
    dir: options.dir,
    verifyPeer: options['verify-peer'] ?? true,
    priority: options.priority,
  };
}

/**
 * The TLS credentials `id`, for one end of a connection.
 *
 * @throws QmpError when there are none of that name, or for the other end
 */
export function tlsCredentials(
  id: string,
  endpoint: TlsEndpoint,
  objects: ObjectLookup,
): TlsCredentials {
  const credentials = findCreds(id, objects);
  if (credentials.endpoint !== endpoint) {
    throw new QmpError(`Expected TLS credentials for a ${endpoint} endpoint`);
  }
  return credentials;
}

/** x-tls-creds-reload. Throws QmpError, and what was read before stays in use. */
export function reloadTlsCredentials(id: string, objects: ObjectLookup): void {
  findCreds(id, objects).reload();
}

function findCreds(id: string, objects: ObjectLookup): TlsCreds {
  const object = objects.find(id);
  if (object === undefined) throw new QmpError(`No TLS credentials with id '${id}'`);
  if (object.type.parent !== 'tls-creds') {
    throw new QmpError(`Object with id '${id}' is not TLS credentials`);
  }
  return object.state as TlsCreds;
}

/** The path of a file of the credentials; undefined for an optional one that is not there. Throws QmpError. */
export function credentialPath(
  dir: string | undefined,
  name: string,
  options: { readonly required: boolean },
): string | undefined {
  if (dir === undefined) {
    if (options.required) throw new QmpError("Missing 'dir' property value");
    return undefined;
  }
  const path = `${dir}/${name}`;
  try {
    statSync(path);
    return path;
  } catch (error) {
    const code = errnoOf(error);
    if (!options.required && (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new QmpError(`Unable to access credentials ${path}: ${strerror(code)}`, { cause: error });
  }
}

/** A required file's path. */
export function requiredPath(dir: string | undefined, name: string): string {
  return credentialPath(dir, name, { required: true }) as string;
}

/** A server's Diffie-Hellman parameters, if there is a file with some. */
export function dhParamsPath(dir: string | undefined): string | undefined {
  return credentialPath(dir, DH_PARAMS, { required: false });
}
