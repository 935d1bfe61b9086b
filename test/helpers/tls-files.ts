// Directories of TLS credentials, put together from the certificates in test/fixtures/tls.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const fixtures = fileURLToPath(new URL('../fixtures/tls', import.meta.url));

/** File names in a directory of credentials, and the fixtures that they are; `text:` stands before a content of its own. */
export type CredentialFiles = Readonly<Record<string, string>>;

/** The key in `keys.psk` of the user alice, and one that is not. */
export const PSK = '0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0';
export const OTHER_PSK = 'ff'.repeat(32);

export const serverFiles: CredentialFiles = {
  'ca-cert.pem': 'ca-cert.pem',
  'server-cert.pem': 'server-cert.pem',
  'server-key.pem': 'server-key.pem',
};

/** A client's files with one of the fixtures as its certificate. */
export function clientFiles(certificate = 'client'): CredentialFiles {
  return {
    'ca-cert.pem': 'ca-cert.pem',
    'client-cert.pem': `${certificate}-cert.pem`,
    'client-key.pem': 'client-key.pem',
  };
}

export const pskFiles: CredentialFiles = { 'keys.psk': `text:alice:${PSK}\n` };

export function fixture(name: string): string {
  return readFileSync(path.join(fixtures, name), 'latin1');
}

export function contentOf(source: string): string {
  return source.startsWith('text:') ? source.slice('text:'.length) : fixture(source);
}

/** Makes the directory and answers its path. */
export function writeCredentials(directory: string, files: CredentialFiles): string {
  mkdirSync(directory, { recursive: true });
  for (const [name, source] of Object.entries(files)) {
    writeFileSync(path.join(directory, name), contentOf(source));
  }
  return directory;
}
