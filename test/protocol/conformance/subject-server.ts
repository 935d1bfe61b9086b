// The server that is examined: ours, with the exports that the rules speak of.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { fixture, serverFiles, writeCredentials } from '../../helpers/tls-files.ts';
import { startNbdTestServer } from '../nbd-test-server.ts';
import type { Doors } from './rule.ts';

/** What the default export is described as. */
export const DESCRIPTION = 'hello';

/** An export of 128 MiB without data, with a second context. */
export const BIG = 'big';
export const BIG_SIZE = 128 * 1024 * 1024;

export interface SubjectServer extends Doors {
  close(): Promise<void>;
}

/** Exports of 1 MiB: `` (writable) and `ro` (read-only); and BIG (writable). The first two also where TLS is a must. */
export async function startSubjectServer(): Promise<SubjectServer> {
  const server = await startNbdTestServer();
  const folder = mkdtempSync(join(tmpdir(), 'nbd-tls-'));
  const objects = new ObjectRegistry();
  await objects.add({
    'qom-type': 'tls-creds-x509',
    id: 't',
    dir: writeCredentials(folder, serverFiles),
    endpoint: 'server',
  });
  const forced = await startNbdTestServer({ objects, 'tls-creds': 't' });
  await server.graph.add({ driver: 'null-co', size: BIG_SIZE, 'node-name': BIG });
  await server.exports.add({
    type: 'nbd',
    id: BIG,
    'node-name': BIG,
    name: BIG,
    writable: true,
    'allocation-depth': true,
  });
  return {
    path: server.path,
    tlsPath: forced.path,
    identity: {
      ca: fixture('ca-cert.pem'),
      cert: fixture('client-cert.pem'),
      key: fixture('client-key.pem'),
      checkServerIdentity: () => undefined,
    },
    close: async () => {
      await Promise.all([server.close(), forced.close()]);
      rmSync(folder, { recursive: true });
    },
  };
}
