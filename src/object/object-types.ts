// The user-creatable types, all of them, and where they stand in the tree of types that qom-list-types shows.

import type { ObjectType } from '../qapi/generated/types.ts';
import { authzList } from './authz-list.ts';
import { authzListFile } from './authz-list-file.ts';
import { authzSimple } from './authz-simple.ts';
import { secret, secretProperties } from './secret.ts';
import { secretKeyring } from './secret-keyring.ts';
import { throttleGroup } from './throttle-group.ts';
import { tlsCipherSuites } from './tls-cipher-suites.ts';
import { tlsCredsProperties } from './tls-creds.ts';
import { tlsCredsAnon } from './tls-creds-anon.ts';
import { tlsCredsPsk } from './tls-creds-psk.ts';
import { tlsCredsX509 } from './tls-creds-x509.ts';
import type { UserObjectType } from './user-object.ts';

export const objectTypes = {
  'authz-list': authzList,
  'authz-list-file': authzListFile,
  'authz-simple': authzSimple,
  secret,
  secret_keyring: secretKeyring,
  'throttle-group': throttleGroup,
  'tls-cipher-suites': tlsCipherSuites,
  'tls-creds-anon': tlsCredsAnon,
  'tls-creds-psk': tlsCredsPsk,
  'tls-creds-x509': tlsCredsX509,
} satisfies { readonly [Name in ObjectType]: UserObjectType<Name> };

/** The row of a type; its functions take that type's state and options. */
export function objectTypeRow(name: ObjectType): UserObjectType {
  return objectTypes[name] as UserObjectType;
}

/** A type of the object model. Abstract ones exist only to be derived from. */
export interface QomType {
  readonly parent?: string;
  readonly abstract?: true;
  /** Can be made with object-add, itself or its descendants. */
  readonly userCreatable?: true;
  /** Own properties in the order in which qom-list names them; those of the parent come first. */
  readonly properties?: readonly { readonly name: string; readonly type: string }[];
}

/** In the order in which the reference lists them, which is that of a hash table with many more types in it. */
export const qomTypes: { readonly [name: string]: QomType } = {
  'authz-simple': userType(authzSimple),
  secret_common: {
    parent: 'object',
    abstract: true,
    userCreatable: true,
    properties: secretProperties,
  },
  container: { parent: 'object' },
  interface: { abstract: true },
  'tls-creds-anon': userType(tlsCredsAnon, tlsCredsProperties.length),
  secret: userType(secret, secretProperties.length),
  'chardev-serial': { parent: 'chardev-fd' },
  'chardev-mux': { parent: 'chardev' },
  authz: { parent: 'object', abstract: true },
  'tls-creds-psk': userType(tlsCredsPsk, tlsCredsProperties.length),
  'tls-creds': { parent: 'object', abstract: true, properties: tlsCredsProperties },
  'chardev-pipe': { parent: 'chardev-fd' },
  'chardev-fd': { parent: 'chardev', abstract: true },
  'authz-list-file': userType(authzListFile),
  'chardev-null': { parent: 'chardev' },
  'chardev-ringbuf': { parent: 'chardev' },
  'authz-list': userType(authzList),
  'chardev-stdio': { parent: 'chardev-fd' },
  chardev: { parent: 'object', abstract: true },
  'user-creatable': { parent: 'interface', abstract: true, userCreatable: true },
  'chardev-socket': {
    parent: 'chardev',
    properties: [
      { name: 'connected', type: 'bool' },
      { name: 'addr', type: 'SocketAddress' },
    ],
  },
  'chardev-file': { parent: 'chardev-fd' },
  'chardev-memory': { parent: 'chardev-ringbuf' },
  object: { abstract: true, properties: [{ name: 'type', type: 'string' }] },
  'tls-creds-x509': userType(tlsCredsX509, tlsCredsProperties.length),
  'chardev-pty': { parent: 'chardev' },
  secret_keyring: userType(secretKeyring, secretProperties.length),
  'throttle-group': userType(throttleGroup),
  'tls-cipher-suites': userType(tlsCipherSuites, tlsCredsProperties.length),
};

/** The type and its ancestors, the type itself first. */
export function qomAncestry(name: string): string[] {
  const names: string[] = [];
  for (let at: string | undefined = name; at !== undefined; at = qomTypes[at]?.parent) {
    names.push(at);
  }
  return names;
}

/** Properties of a type with those of its ancestors, the most general first. */
export function qomProperties(name: string): { readonly name: string; readonly type: string }[] {
  return qomAncestry(name)
    .reverse()
    .flatMap((type) => qomTypes[type]?.properties ?? []);
}

/** A row as a type of the tree; its first `inherited` properties are those of its parent. */
function userType(
  row: {
    readonly parent: string;
    readonly properties: readonly { readonly name: string; readonly type: string }[];
  },
  inherited = 0,
): QomType {
  return { parent: row.parent, userCreatable: true, properties: row.properties.slice(inherited) };
}
