// Who uses the server: the list of clients, disconnecting one, and the events of their coming and going.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { XNbdClientInfo } from '../../src/qapi/generated/types.ts';
import { addSlowExport, type NbdTestServer, startNbdTestServer } from './nbd-test-server.ts';
import { CMD, encodeRequest, FLAG, NbdWireClient, OPT } from './nbd-wire-client.ts';

let server: NbdTestServer;
beforeEach(async () => {
  server = await startNbdTestServer();
});
afterEach(() => server.close());

/** What there is to know of the only client. */
function only(): XNbdClientInfo {
  const [info, ...others] = server.exports.queryNbdClients();
  if (info === undefined || others.length > 0) throw new Error('not one client');
  return info;
}

describe('x-query-nbd-clients', () => {
  it('lists nobody when there is nobody, or no server', async () => {
    expect(server.exports.queryNbdClients()).toEqual([]);
    await server.exports.stopNbdServer();
    expect(server.exports.queryNbdClients()).toEqual([]);
  });

  it('tells of a client that negotiates what there is to tell', async () => {
    const client = await server.greeted();
    await client.option(OPT.LIST);
    const now = Date.now() / 1000;
    expect(only()).toEqual({
      id: 1,
      peer: expect.stringContaining('unix:'),
      state: 'handshake',
      'connected-since': expect.any(Number),
      'bytes-read': 0,
      'bytes-written': 0,
      requests: 0,
      'requests-in-flight': 0,
    });
    expect(Math.abs(only()['connected-since'] - now)).toBeLessThan(60);
  });

  it('tells which export a client uses, and how much', async () => {
    const client = await server.ready();
    await client.request({ type: CMD.READ, length: 4096 });
    await client.request({ type: CMD.READ, flags: FLAG.DF, length: 512 });
    await client.request({ type: CMD.WRITE, payload: Buffer.alloc(1024) });
    await client.request({ type: CMD.WRITE_ZEROES, length: 65536 });
    await client.request({ type: CMD.READ, offset: 2 ** 40, length: 4096 });
    expect(only()).toMatchObject({
      state: 'transmission',
      'export-id': 'rw',
      'export-name': '',
      'bytes-read': 4608,
      'bytes-written': 1024,
      requests: 5,
      'requests-in-flight': 0,
    });
  });

  it('counts requests that take their time while they are under way, and afterwards', async () => {
    const letGo = await addSlowExport(server);
    const client = await server.ready({ name: 'slow' });
    const read = { type: CMD.READ, flags: FLAG.DF, length: 512 };
    client.send(encodeRequest(read), encodeRequest(read));
    // An option is answered in a later turn than requests that came before it.
    await server.ready({ name: 'ro' });
    const [info] = server.exports.queryNbdClients();
    expect(info).toMatchObject({ requests: 0, 'requests-in-flight': 2 });
    letGo();
    await client.reply();
    await client.reply();
    const [after] = server.exports.queryNbdClients();
    expect(after).toMatchObject({ requests: 2, 'requests-in-flight': 0, 'bytes-read': 1024 });
  });

  it('gives no number twice, not even after the server was stopped', async () => {
    await server.ready();
    await server.ready();
    expect(server.exports.queryNbdClients().map(({ id }) => id)).toEqual([1, 2]);
    await server.exports.stopNbdServer();
    await server.exports.startNbdServer({ addr: { type: 'unix', path: server.path } });
    const client = await server.greeted();
    await client.option(OPT.LIST);
    expect(only().id).toBe(3);
  });
});

describe('x-nbd-client-disconnect', () => {
  it('disconnects that client and no other', async () => {
    const gone = await server.ready();
    const kept = await server.ready();
    server.exports.disconnectNbdClient(1);
    expect(await gone.receiveRest()).toHaveLength(0);
    expect(await kept.request({ type: CMD.FLUSH })).toMatchObject([{ kind: 'simple', error: 0 }]);
    expect(server.exports.queryNbdClients().map(({ id }) => id)).toEqual([2]);
  });

  it('disconnects a client that only negotiates', async () => {
    const client = await server.greeted();
    await client.option(OPT.LIST);
    server.exports.disconnectNbdClient(1);
    await client.receiveRest();
  });

  it('knows the client or says that it does not', async () => {
    expect(() => server.exports.disconnectNbdClient(7)).toThrow("NBD client '7' is not found");
  });
});

describe('events of clients', () => {
  it('are not sent unless they are asked for', async () => {
    const client = await server.ready();
    client.sendRequest({ type: CMD.DISC });
    await client.receiveRest();
    await server.exports.remove('ro');
    expect(server.events).toEqual(['BLOCK_EXPORT_DELETED ro']);
  });

  it('are sent for clients that choose an export, and before the export is gone', async () => {
    server.exports.announceNbdClients(true);
    const negotiating = await NbdWireClient.greeted(server.path);
    await negotiating.option(OPT.ABORT);
    await server.ready();
    expect(server.events).toEqual(['X_NBD_CLIENT_CONNECTED 2']);
    await server.exports.remove('rw', 'hard');
    await server.emitted('BLOCK_EXPORT_DELETED');
    expect(server.events).toEqual([
      'X_NBD_CLIENT_CONNECTED 2',
      'X_NBD_CLIENT_DISCONNECTED 2',
      'BLOCK_EXPORT_DELETED rw',
    ]);
    negotiating.close();
  });

  it('are not sent any more once they are not wanted', async () => {
    server.exports.announceNbdClients(true);
    await server.ready();
    server.exports.announceNbdClients(false);
    await server.exports.remove('rw', 'hard');
    await server.emitted('BLOCK_EXPORT_DELETED');
    expect(server.events).toEqual(['X_NBD_CLIENT_CONNECTED 1', 'BLOCK_EXPORT_DELETED rw']);
  });
});
