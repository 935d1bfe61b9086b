// From credentials to what node:tls takes.

import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import type { SessionMaterial, TlsCredentials } from '../base/tls-credentials.ts';
import { TlsError } from './tls-failure.ts';
import { effectivePriority, PriorityError, parametersOf } from './tls-priority.ts';

/**
 * Sessions are not resumed: each connection shows its certificate. TLS 1.2 could begin again in the middle, which nobody needs
 * and which is work for one side only.
 */
const { SSL_OP_NO_TICKET, SSL_OP_NO_RENEGOTIATION } = constants;

/** Suites without a certificate are below what OpenSSL takes for secure by default. */
const ANONYMOUS = ':@SECLEVEL=0';

/** Throws TlsError, with the reference's text, for a priority string that cannot be used. */
export function contextOptions(credentials: TlsCredentials): SecureContextOptions {
  const { material, priority } = credentials;
  if (material.kind === 'unsupported') {
    throw new TlsError(`Unsupported TLS credentials type ${material.type}`);
  }
  const { ciphers, groups, minVersion, maxVersion } = parameters(material, priority);
  return {
    minVersion,
    maxVersion,
    ciphers: material.kind === 'anon' ? `${ciphers}${ANONYMOUS}` : ciphers,
    ecdhCurve: groups,
    secureOptions: SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION,
    dhparam: material.dhParams ?? 'auto',
    // Without a list node would trust all authorities that it comes with.
    ca: material.kind === 'x509' && material.ca !== '' ? [material.ca] : [],
    ...(material.kind === 'x509' ? material.own : {}),
  };
}

function parameters(
  material: SessionMaterial,
  priority: string | undefined,
): ReturnType<typeof parametersOf> {
  const effective = effectivePriority(priority, material.kind);
  try {
    return parametersOf(effective, material.kind);
  } catch (error) {
    if (!(error instanceof PriorityError)) throw error;
    const what = material.kind === 'x509' ? 'Cannot set default' : 'Unable to set';
    throw new TlsError(`${what} TLS session priority ${effective}: ${error.message}`);
  }
}
