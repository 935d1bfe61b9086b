// Who is at the other end of a TLS session, and whether that is good enough: the checks that follow a handshake, in the
// reference's order and words.

import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { certificateFields, insecureSignatures } from '../base/certificate.ts';
import type { TlsCredentials, X509Material } from '../base/tls-credentials.ts';
import { TlsError, untrusted } from './tls-failure.ts';

const X509_V_OK = 0;
/** The certificate is not meant for this end of a connection. The reference does not look at that. */
const X509_V_ERR_INVALID_PURPOSE = 26;

/** What a session knows of its peer. */
export interface Peer {
  /** Its certificate and those that vouch for it; none without one. */
  readonly certificates: readonly X509Certificate[];
  /** X509_V_OK, or X509_V_ERR_*. */
  readonly verifyResult: number;
}

export interface PeerCheck {
  readonly credentials: TlsCredentials;
  /** Whether the peer may in whose certificate bears this name; all may when absent. May throw. */
  readonly authorize?: (name: string) => boolean;
  /** Whom a client expects to talk to. */
  readonly hostname?: string;
}

/** The distinguished name of the peer's certificate, if it has shown one that counts. Throws TlsError. */
export function checkPeer(peer: Peer, check: PeerCheck): string | undefined {
  const { credentials, authorize, hostname } = check;
  const { material } = credentials;
  // Only certificates say who somebody is.
  if (material.kind !== 'x509' || !credentials.verifyPeer) return undefined;
  const { certificates, verifyResult } = peer;
  const [certificate] = certificates;
  if (certificate === undefined) throw new TlsError('Verify failed: No certificate was found.');
  const isTrusted =
    verifyResult === X509_V_OK ||
    (verifyResult === X509_V_ERR_INVALID_PURPOSE && isIssued(certificate, material));
  if (!isTrusted) throw untrusted(verifyResult);
  if (isRevoked(certificates, material)) throw new TlsError('The certificate has been revoked');
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

/**
 * Whether one of the authorities has issued the certificate itself. Asked where OpenSSL complains of the purpose, which may hide
 * other complaints; what cannot be told here is not accepted.
 */
function isIssued(certificate: X509Certificate, { ca }: X509Material): boolean {
  const authorities = ca.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? [];
  return (
    isCurrent(certificate) &&
    authorities.some((pem) => {
      const authority = new X509Certificate(pem);
      return (
        authority.ca &&
        isCurrent(authority) &&
        certificate.checkIssued(authority) &&
        certificate.verify(authority.publicKey)
      );
    })
  );
}

/**
 * Whether the certificate, or one between it and its authority, is on a list. As in the reference a list is a list, however old it
 * is and whatever its signer may sign; OpenSSL would accept nobody at all then.
 */
function isRevoked(chain: readonly X509Certificate[], { revoked }: X509Material): boolean {
  if (revoked.length === 0) return false;
  return chain.some(({ raw }) => {
    const { issuer, serial } = certificateFields(raw);
    return revoked.some((list) => list.issuer === issuer && list.serials.has(serial));
  });
}

function isCurrent({ raw }: X509Certificate): boolean {
  const { notBefore, notAfter, signatureAlgorithm } = certificateFields(raw);
  const now = Date.now();
  return notBefore <= now && now <= notAfter && !insecureSignatures.has(signatureAlgorithm);
}
