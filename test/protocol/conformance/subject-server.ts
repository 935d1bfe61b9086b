// The server that is examined: ours, with the exports that the rules speak of.

import { type NbdTestServer, startNbdTestServer } from '../nbd-test-server.ts';

/** What the default export is described as. */
export const DESCRIPTION = 'hello';

/** An export of 128 MiB without data, with a second context. */
export const BIG = 'big';
export const BIG_SIZE = 128 * 1024 * 1024;

/** Exports of 1 MiB: `` (writable) and `ro` (read-only); and BIG (writable). */
export async function startSubjectServer(): Promise<NbdTestServer> {
  const server = await startNbdTestServer();
  await server.graph.add({ driver: 'null-co', size: BIG_SIZE, 'node-name': BIG });
  await server.exports.add({
    type: 'nbd',
    id: BIG,
    'node-name': BIG,
    name: BIG,
    writable: true,
    'allocation-depth': true,
  });
  return server;
}
