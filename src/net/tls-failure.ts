// Why a TLS session does not come about, in the words of the reference, which are GnuTLS's; OpenSSL, which does the work here,
// has its own.

import type { TlsMaterial } from '../base/tls-credentials.ts';

/** A handshake or the check of the peer failed. */
export class TlsError extends Error {
  override readonly name = 'TlsError';
}

const UNEXPECTED_PACKET = 'An unexpected TLS packet was received.';
const DECRYPTION = 'Decryption has failed.';
const WRONG_KEY = 'An illegal parameter has been received.';
const NO_CREDENTIALS = 'Insufficient credentials for that request.';
const NO_CIPHERS = 'No supported cipher suites have been found.';
const ALERT = 'A TLS fatal alert has been received.';

/** By what a session's HandshakeFailure has as its code: OpenSSL's reason, or an errno's name. */
const handshakeReasons: Readonly<Record<string, string>> = {
  ECONNRESET: 'The TLS connection was non-properly terminated.',
  EPIPE: 'Error in the push function.',
  ERR_SSL_WRONG_VERSION_NUMBER: UNEXPECTED_PACKET,
  ERR_SSL_HTTP_REQUEST: UNEXPECTED_PACKET,
  ERR_SSL_HTTPS_PROXY_REQUEST: UNEXPECTED_PACKET,
  ERR_SSL_UNEXPECTED_MESSAGE: UNEXPECTED_PACKET,
  ERR_SSL_BAD_RECORD_TYPE: UNEXPECTED_PACKET,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'A TLS record packet with invalid length was received.',
  ERR_SSL_UNSUPPORTED_PROTOCOL: NO_CIPHERS,
  ERR_SSL_VERSION_TOO_LOW: NO_CIPHERS,
  ERR_SSL_NO_SHARED_CIPHER: NO_CIPHERS,
  ERR_SSL_NO_SUITABLE_KEY_SHARE: NO_CIPHERS,
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: NO_CIPHERS,
  // Whether the user or the key is wrong is not to be learnt.
  ERR_SSL_PSK_IDENTITY_NOT_FOUND: DECRYPTION,
  ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: DECRYPTION,
  ERR_SSL_BINDER_DOES_NOT_VERIFY: WRONG_KEY,
  ERR_SSL_BAD_SIGNATURE: 'Public key signature verification has failed.',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'The operation timed out',
};

/** What a failure may depend on. */
export interface FailureContext {
  readonly kind: TlsMaterial['kind'];
  /** The peer has named a user. */
  readonly named: boolean;
}

/** What is logged of a handshake that failed. */
export function handshakeFailure(error: unknown, { kind, named }: FailureContext): TlsError {
  const {
    code = '',
    message = '',
    reason = message,
  } = error as {
    code?: string;
    message?: string;
    reason?: string;
  };
  let known = /_ALERT_/.test(code) ? ALERT : handshakeReasons[code];
  // OpenSSL goes on without the key that it does not have, and then has nothing to agree on.
  if (known === NO_CIPHERS && kind !== 'x509') known = named ? WRONG_KEY : NO_CREDENTIALS;
  return new TlsError(`TLS handshake failed: ${known ?? reason}`, { cause: error });
}

const UNKNOWN_ISSUER = "The certificate hasn't got a known issuer";
const INSECURE = 'The certificate uses an insecure algorithm';

/** By OpenSSL's X509_V_ERR_* for what is wrong with a certificate. */
const certificateReasons: Readonly<Record<number, string>> = {
  /* UNABLE_TO_GET_ISSUER_CERT */ 2: UNKNOWN_ISSUER,
  /* DEPTH_ZERO_SELF_SIGNED_CERT */ 18: UNKNOWN_ISSUER,
  /* SELF_SIGNED_CERT_IN_CHAIN */ 19: UNKNOWN_ISSUER,
  /* UNABLE_TO_GET_ISSUER_CERT_LOCALLY */ 20: UNKNOWN_ISSUER,
  /* UNABLE_TO_VERIFY_LEAF_SIGNATURE */ 21: UNKNOWN_ISSUER,
  /* EE_KEY_TOO_SMALL */ 66: INSECURE,
  /* CA_KEY_TOO_SMALL */ 67: INSECURE,
  /* CA_MD_TOO_WEAK */ 68: INSECURE,
};

/** What is logged of a peer whose certificate OpenSSL does not accept. */
export function untrusted(verifyResult: number): TlsError {
  return new TlsError(certificateReasons[verifyResult] ?? 'The certificate is not trusted');
}
