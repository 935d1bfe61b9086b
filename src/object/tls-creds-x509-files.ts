// Reads certificates, keys and revocation lists. What cannot be used is refused in the words of the reference, which are partly
// GnuTLS's.

import type { KeyObject } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { type RevocationList, revocationList } from '../base/certificate.ts';
import type { X509Material } from '../base/tls-credentials.ts';
import type { Trace } from '../base/trace.ts';
import { QmpError } from '../qapi/errors.ts';
import { secretText } from './secret.ts';
import { credentialPath, dhParamsPath, requiredPath } from './tls-creds.ts';
import {
  CERTIFICATE,
  derOf,
  NOT_BASE64,
  NOT_DER,
  pemBlocks,
  REVOCATION_LIST,
  readDhParams,
  readText,
} from './tls-creds-files.ts';
import type { TlsCredsX509 } from './tls-creds-x509.ts';
import { checkSanity } from './tls-sanity.ts';
import type { ObjectLookup } from './user-object.ts';

type Wanted = Pick<TlsCredsX509, 'endpoint' | 'dir' | 'sanityCheck' | 'passwordid'>;

interface Paths {
  readonly ca: string;
  readonly crl: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly dhParams: string | undefined;
}

/** Reads all files there are. Throws QmpError. */
export function readX509(
  wanted: Wanted,
  { objects, trace }: { readonly objects: ObjectLookup; readonly trace: Trace },
): X509Material {
  const { endpoint, sanityCheck } = wanted;
  trace.qcrypto_tls_creds_x509_load.log({ dir: wanted.dir ?? '<nodir>' });
  const paths = pathsOf(wanted);
  const caText = readText(paths.ca, `Cannot load CA certificate '${paths.ca}': `);
  if (sanityCheck) {
    const certText = isReadable(paths.cert) ? readText(paths.cert, '') : undefined;
    checkSanity({
      endpoint,
      ca: { path: paths.ca, text: caText },
      cert: certText === undefined ? undefined : { path: paths.cert ?? '', text: certText },
    });
  }
  const own = ownCertificate(paths, wanted.passwordid, objects);
  const revoked = revocationLists(paths.crl);
  const dhParams = readDhParams(paths.dhParams);
  return {
    kind: 'x509',
    // Only whole certificates: node refuses a text with anything else in it.
    ca: pemBlocks(caText, CERTIFICATE).join('\n'),
    ...(own === undefined ? {} : { own }),
    revoked,
    ...(dhParams === undefined ? {} : { dhParams }),
  };
}

/** In the order in which the reference looks for them. */
function pathsOf({ endpoint, dir }: Wanted): Paths {
  const optional = { required: false };
  const ca = requiredPath(dir, 'ca-cert.pem');
  if (endpoint === 'client') {
    const cert = credentialPath(dir, 'client-cert.pem', optional);
    const key = credentialPath(dir, 'client-key.pem', optional);
    return { ca, cert, key, crl: undefined, dhParams: undefined };
  }
  const crl = credentialPath(dir, 'ca-crl.pem', optional);
  const cert = requiredPath(dir, 'server-cert.pem');
  const key = requiredPath(dir, 'server-key.pem');
  return { ca, crl, cert, key, dhParams: dhParamsPath(dir) };
}

function isReadable(path: string | undefined): path is string {
  if (path === undefined) return false;
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Our own certificate with its key; a client may have none. */
function ownCertificate(
  { cert, key }: Paths,
  passwordid: string | undefined,
  objects: ObjectLookup,
): X509Material['own'] {
  if (cert === undefined || key === undefined) return undefined;
  const passphrase = passwordid === undefined ? undefined : secretText(passwordid, objects);
  const context = `Cannot load certificate '${cert}' & key '${key}': `;
  const refuse = (reason: string, cause?: unknown): never => {
    throw new QmpError(`${context}${reason}`, { cause });
  };
  const { createPrivateKey, X509Certificate } = process.getBuiltinModule('node:crypto');
  const keyText = readText(key, context);
  if (!/-----BEGIN .*PRIVATE KEY-----/.test(keyText)) {
    refuse('The requested data were not available.');
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey({
      key: keyText,
      ...(passphrase === undefined ? {} : { passphrase }),
    });
  } catch (error) {
    const encrypted = /ENCRYPTED/.test(keyText);
    return refuse(encrypted ? 'Decryption has failed.' : NOT_BASE64, error);
  }
  const certificates = pemBlocks(readText(cert, context), CERTIFICATE);
  const [first] = certificates;
  if (first === undefined) return refuse(NOT_BASE64);
  let fits: boolean;
  try {
    fits = new X509Certificate(first).checkPrivateKey(privateKey);
  } catch (error) {
    return refuse(NOT_BASE64, error);
  }
  if (!fits) refuse('The certificate and the given key do not match.');
  return {
    cert: certificates.join('\n'),
    key: keyText,
    ...(passphrase === undefined ? {} : { passphrase }),
  };
}

function revocationLists(path: string | undefined): RevocationList[] {
  if (path === undefined) return [];
  const context = `Cannot load CRL '${path}': `;
  const blocks = pemBlocks(readText(path, context), REVOCATION_LIST);
  if (blocks.length === 0) throw new QmpError(`${context}${NOT_BASE64}`);
  try {
    return blocks.map((block) => revocationList(derOf(block)));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new QmpError(`${context}${NOT_DER}`, { cause: error });
  }
}
