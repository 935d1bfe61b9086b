// Whether our own certificates are such that a peer could accept them at all: the checks of `sanity-check`, in the order and the
// words of the reference.

import {
  type CertificateFields,
  certificateFields,
  insecureSignatures,
  KEY_USAGE_CERTIFICATE_SIGN,
  KEY_USAGE_DIGITAL_SIGNATURE,
  PURPOSE_ANY,
  PURPOSE_TLS_CLIENT,
  PURPOSE_TLS_SERVER,
} from '../base/certificate.ts';
import type { TlsEndpoint } from '../base/tls-credentials.ts';
import { QmpError } from '../qapi/errors.ts';
import { CERTIFICATE, derOf, NO_HEADER, NOT_DER, pemBlocks } from './tls-creds-files.ts';

interface CertificateFile {
  readonly path: string;
  readonly text: string;
}

export interface SanityOptions {
  readonly endpoint: TlsEndpoint;
  readonly ca: CertificateFile;
  /** Our own certificate; a client may have none. */
  readonly cert: CertificateFile | undefined;
}

/** CA certificates that the reference reads at most. */
const MAX_CA_CERTIFICATES = 16;

interface Certificate {
  readonly der: Buffer;
  readonly fields: CertificateFields;
}

/** Throws QmpError for the first check that fails. */
export function checkSanity({ endpoint, ca, cert }: SanityOptions): void {
  const own = cert === undefined ? undefined : ownCertificate(cert, endpoint);
  const authorities = authorityCertificates(ca);
  if (cert !== undefined && own !== undefined) {
    checkTimes(own.fields, cert.path, endpoint);
    checkOwn(own.fields, cert.path, endpoint);
  }
  for (const { fields } of authorities) {
    checkTimes(fields, ca.path, 'CA');
    checkAuthority(fields, ca.path);
  }
  if (cert === undefined || own === undefined) return;
  const reason = mistrust(own, authorities);
  if (reason === undefined) return;
  throw new QmpError(
    `Our own certificate ${cert.path} failed validation against ${ca.path}: ${reason}`,
  );
}

function ownCertificate({ path, text }: CertificateFile, endpoint: TlsEndpoint): Certificate {
  const [block] = pemBlocks(text, CERTIFICATE);
  const certificate = block === undefined ? undefined : certificateOf(block);
  if (certificate !== undefined) return certificate;
  const reason = block === undefined ? NO_HEADER : NOT_DER;
  throw new QmpError(`Unable to import ${endpoint} certificate ${path}: ${reason}`);
}

function authorityCertificates({ path, text }: CertificateFile): Certificate[] {
  const blocks = pemBlocks(text, CERTIFICATE);
  const certificates = blocks.flatMap((block) => certificateOf(block) ?? []);
  const complete = certificates.length === blocks.length;
  if (blocks.length === 0 || blocks.length > MAX_CA_CERTIFICATES || !complete) {
    throw new QmpError(`Unable to import CA certificate list ${path}`);
  }
  return certificates;
}

function certificateOf(pem: string): Certificate | undefined {
  const der = derOf(pem);
  try {
    return { der, fields: certificateFields(der) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return undefined;
  }
}

function checkTimes(fields: CertificateFields, path: string, whose: TlsEndpoint | 'CA'): void {
  const now = Date.now();
  if (fields.notAfter < now) throw new QmpError(`The ${whose} certificate ${path} has expired`);
  if (fields.notBefore > now) {
    throw new QmpError(`The ${whose} certificate ${path} is not yet active`);
  }
}

function checkOwn(fields: CertificateFields, path: string, endpoint: TlsEndpoint): void {
  const { isCa, keyUsage, purposes } = fields;
  if (isCa === true) {
    throw new QmpError(
      `The certificate ${path} basic constraints show a CA, but we need one for a ${endpoint}`,
    );
  }
  // What is not marked critical is advice.
  if (keyUsage?.critical === true && !keyUsage.bits.has(KEY_USAGE_DIGITAL_SIGNATURE)) {
    throw new QmpError(`Certificate ${path} usage does not permit digital signature`);
  }
  const purpose = endpoint === 'server' ? PURPOSE_TLS_SERVER : PURPOSE_TLS_CLIENT;
  const allowed = purposes?.oids.some((oid) => oid === purpose || oid === PURPOSE_ANY) ?? true;
  if (purposes?.critical === true && !allowed) {
    throw new QmpError(`Certificate ${path} purpose does not allow use with a TLS ${endpoint}`);
  }
}

function checkAuthority({ isCa, keyUsage }: CertificateFields, path: string): void {
  if (isCa === undefined) {
    throw new QmpError(`The certificate ${path} is missing basic constraints for a CA`);
  }
  if (!isCa) throw new QmpError(`The certificate ${path} basic constraints do not show a CA`);
  if (keyUsage?.critical === true && !keyUsage.bits.has(KEY_USAGE_CERTIFICATE_SIGN)) {
    throw new QmpError(`Certificate ${path} usage does not permit certificate signing`);
  }
}

/** Why no authority vouches for the certificate; undefined when one does. */
function mistrust(own: Certificate, authorities: readonly Certificate[]): string | undefined {
  const { X509Certificate } = process.getBuiltinModule('node:crypto');
  const certificate = new X509Certificate(own.der);
  const vouchedFor = authorities.some(({ der }) => {
    const authority = new X509Certificate(der);
    if (certificate.fingerprint256 === authority.fingerprint256) return true;
    return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
  });
  if (!vouchedFor) return "The certificate hasn't got a known issuer";
  if (insecureSignatures.has(own.fields.signatureAlgorithm)) {
    return 'The certificate uses an insecure algorithm';
  }
  return undefined;
}
