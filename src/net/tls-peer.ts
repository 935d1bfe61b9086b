// Who is at the other end of a TLS session, and whether that is good enough: the checks that follow a handshake, in the
// reference's order and words.

import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { certificateFields } from '../base/certificate.ts';
import type { TlsCredentials } from '../base/tls-credentials.ts';
import { TlsError, untrusted } from './tls-failure.ts';

export interface PeerCheck {
  readonly credentials: TlsCredentials;
  /** Whether the peer may in whose certificate bears this name; all may when absent. May throw. */
  readonly authorize?: (name: string) => boolean;
  /** Whom a client expects to talk to. */
  readonly hostname?: string;
}

/** The distinguished name of the peer's certificate, if it has shown one that counts. Throws TlsError. */
export function checkPeer(socket: TLSSocket, check: PeerCheck): string | undefined {
  const { credentials, authorize, hostname } = check;
  // Only certificates say who somebody is.
  if (credentials.material.kind !== 'x509' || !credentials.verifyPeer) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new TlsError('Verify failed: No certificate was found.');
  if (!socket.authorized) throw untrusted(String(socket.authorizationError));
  const { subject } = certificateFields(certificate.raw);
  if (authorize !== undefined && !authorize(subject)) {
    throw new TlsError(`TLS x509 authz check for ${subject} is denied`);
  }
  if (credentials.endpoint === 'client') {
    if (hostname === undefined) throw new TlsError('No hostname for certificate validation');
    const matches =
      isIP(hostname) === 0 ? certificate.checkHost(hostname) : certificate.checkIP(hostname);
    if (matches === undefined) {
      throw new TlsError(`Certificate does not match the hostname ${hostname}`);
    }
  }
  return subject;
}
