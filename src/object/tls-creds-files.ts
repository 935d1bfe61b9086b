// Reads the files of TLS credentials, with the texts that the reference gives for those that cannot be used. Loaded with the
// first credentials.

import { readFileSync } from 'node:fs';
import { errnoOf, strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';

/** How GnuTLS says what is wrong with a file. */
export const NO_HEADER = 'Base64 unexpected header error.';
export const NOT_BASE64 = 'Base64 decoding error.';
export const NOT_DER = 'ASN1 parser: Error in DER parsing.';

/** A file's text. Throws QmpError, its text begun by `context`. */
export function readText(path: string, context: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    const reason = strerror(errnoOf(error));
    throw new QmpError(`${context}Failed to open file “${path}”: ${reason}`, { cause: error });
  }
}

/** The PEM blocks of a text with one of the labels. */
export function pemBlocks(text: string, labels: string): string[] {
  const pattern = new RegExp(`-----BEGIN (${labels})-----[^-]*-----END \\1-----`, 'g');
  return text.match(pattern) ?? [];
}

export const CERTIFICATE = '(?:X509 )?CERTIFICATE';
export const REVOCATION_LIST = 'X509 CRL';
const DH_PARAMETERS = 'DH PARAMETERS';

/** The bytes of a PEM block. */
export function derOf(pem: string): Buffer {
  return Buffer.from(pem.split('\n').slice(1, -1).join(''), 'base64');
}

/** Diffie-Hellman parameters in PEM. Throws QmpError. */
export function readDhParams(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  const [block] = pemBlocks(readText(path, ''), DH_PARAMETERS);
  if (block === undefined) {
    throw new QmpError(`Unable to load DH parameters from ${path}: ${NO_HEADER}`);
  }
  return block;
}
