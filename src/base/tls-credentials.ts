// What a TLS session needs of the credentials that a user has made: the contract between the objects, which read the files, and
// the network, which speaks the protocol.

import type { RevocationList } from './certificate.ts';

export type TlsEndpoint = 'server' | 'client';

/** Certificates and keys as their files hold them, in PEM. */
export interface X509Material {
  readonly kind: 'x509';
  readonly ca: string;
  /** Absent only for a client that does not identify itself. */
  readonly own?: { readonly cert: string; readonly key: string; readonly passphrase?: string };
  /** Certificates that are no longer valid. */
  readonly revoked: readonly RevocationList[];
  readonly dhParams?: string;
}

export interface PskMaterial {
  readonly kind: 'psk';
  readonly dhParams?: string;
  /** Who a client says it is. */
  readonly username?: string;
  /** The key of a user, or undefined for one that is not known. Throws when the keys cannot be read. */
  keyOf(username: string): Buffer | undefined;
}

/** Encrypted, but nobody knows with whom. */
export interface AnonMaterial {
  readonly kind: 'anon';
  readonly dhParams?: string;
}

/** Credentials that no session can be made with. */
export interface UnsupportedMaterial {
  readonly kind: 'unsupported';
  /** The object's type. */
  readonly type: string;
}

/** What a session is made with. */
export type SessionMaterial = X509Material | PskMaterial | AnonMaterial;

export type TlsMaterial = SessionMaterial | UnsupportedMaterial;

export interface TlsCredentials {
  readonly endpoint: TlsEndpoint;
  /** Whether the peer must have a certificate that the CA vouches for. */
  readonly verifyPeer: boolean;
  /** A GnuTLS priority string; undefined for the default. */
  readonly priority: string | undefined;
  /** Another object after each reload: who keeps what was made from it can tell. */
  readonly material: TlsMaterial;
}
