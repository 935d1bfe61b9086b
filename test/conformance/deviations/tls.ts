// Where TLS differs.

import type { Deviation } from './deviation.ts';

const program = (text: string): string => `@PROGRAM@: option negotiation failed: ${text}`;
const ended = program(
  'Failed to read opts magic: Unexpected end-of-file before all data were read',
);
const noCloseNotify =
  'Node does not tell a TLS connection that just ends from one that says so first';

/** What is logged of clients that leave TLS without a word. */
export const tlsEnds: readonly Deviation[] = [
  {
    case: 'tls/with certificates: stderr and end',
    ours: [
      ended,
      ended,
      ended,
      program('TLS x509 authz check for C=GB,O=Example\\, Inc,CN=nobody is denied'),
      program('The certificate has been revoked'),
      program("The certificate hasn't got a known issuer"),
      program('The certificate is not trusted'),
      program('Verify failed: No certificate was found.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
  {
    case: 'tls/without verification: stderr and end',
    ours: [ended, ended, '<exit 0>'],
    why: noCloseNotify,
  },
  {
    case: 'tls/with TLS 1.2 only: stderr and end',
    ours: [
      ended,
      program('TLS handshake failed: No supported cipher suites have been found.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
  {
    case: 'tls/with keys: stderr and end',
    ours: [
      ended,
      ended,
      program('TLS handshake failed: An illegal parameter has been received.'),
      program('TLS handshake failed: An illegal parameter has been received.'),
      program('TLS handshake failed: Decryption has failed.'),
      program('TLS handshake failed: Decryption has failed.'),
      '<exit 0>',
    ],
    why: noCloseNotify,
  },
];
