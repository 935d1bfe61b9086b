// What connections, exports and the server do to each other: removal, the end of the server, limits, time.

import { existsSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  DATA_START,
  type NbdTestServer,
  type ServerOptions,
  startNbdTestServer,
} from './nbd-test-server.ts';
import { CMD, encodeRequest, infoRequest, NbdWireClient, OPT } from './nbd-wire-client.ts';

let server: NbdTestServer;
afterEach(() => server.close());

async function start(options?: ServerOptions): Promise<void> {
  server = await startNbdTestServer(options);
}

async function negotiating(): Promise<NbdWireClient> {
  const client = await server.greeted();
  await client.option(OPT.LIST);
  return client;
}

describe('removing an export', () => {
  it('has ended an idle one, with its event, when it returns', async () => {
    await start();
    await server.exports.remove('rw');
    expect(server.events).toEqual(['BLOCK_EXPORT_DELETED rw']);
    expect(server.exports.query().map(({ id }) => id)).toEqual(['ro']);
  });

  it('safely is refused while a client uses it', async () => {
    await start();
    await server.ready();
    await expect(server.exports.remove('rw')).rejects.toThrow("export 'rw' still in use");
    await expect(server.exports.remove('rw', 'safe')).rejects.toThrow();
    expect(server.exports.query().find(({ id }) => id === 'rw')).toMatchObject({
      'shutting-down': false,
    });
  });

  it('is possible while a client is only negotiating', async () => {
    await start();
    const client = await negotiating();
    await server.exports.remove('rw');
    const [reply] = await client.option(OPT.GO, infoRequest(''));
    expect(reply?.data.toString()).toBe("export '' not present");
    await client.option(OPT.GO, infoRequest('ro'));
  });

  it('hard returns first, drops its clients and no others, and sends the event then', async () => {
    await start();
    const dropped = await server.ready();
    const kept = await server.ready({ name: 'ro' });
    await server.exports.remove('rw', 'hard');
    expect(server.events).toEqual([]);
    expect(server.exports.query().find(({ id }) => id === 'rw')).toMatchObject({
      'shutting-down': true,
    });
    await expect(server.exports.remove('rw', 'hard')).rejects.toThrow(
      "Export 'rw' is already shutting down",
    );
    expect(await dropped.receiveRest()).toHaveLength(0);
    await server.emitted('BLOCK_EXPORT_DELETED rw');
    expect(await kept.request({ type: CMD.FLUSH })).toHaveLength(1);
    expect(server.log).toEqual([]);
  });

  it('frees its node and its names', async () => {
    await start();
    await server.exports.remove('rw');
    await server.exports.remove('ro');
    await server.exports.add({ type: 'nbd', id: 'rw', 'node-name': 'disk', name: 'ro' });
    await server.exports.remove('rw');
    await server.graph.remove('disk');
  });

  it('hard in the middle of large requests ends them all', async () => {
    await start();
    const client = await server.ready();
    const requests = Array.from({ length: 64 }, (_, index) =>
      encodeRequest({ type: CMD.READ, flags: 4, cookie: BigInt(index), length: 1024 * 1024 }),
    );
    client.send(...requests);
    await client.receive(100);
    await server.exports.remove('rw', 'hard');
    await server.emitted('BLOCK_EXPORT_DELETED rw');
    await client.receiveRest();
  });
});

describe('nbd-server-stop', () => {
  it('drops clients wherever they are, sends the events first, and removes the socket', async () => {
    await start();
    const mute = server.keep(await NbdWireClient.connect(server.path));
    await mute.receive(18);
    const handshaking = await negotiating();
    const transmitting = await server.ready();
    await server.exports.stopNbdServer();
    expect(server.events.toSorted()).toEqual([
      'BLOCK_EXPORT_DELETED ro',
      'BLOCK_EXPORT_DELETED rw',
    ]);
    expect(server.exports.query()).toEqual([]);
    expect(existsSync(server.path)).toBe(false);
    for (const client of [mute, handshaking, transmitting]) {
      expect(await client.receiveRest()).toHaveLength(0);
    }
    await expect(server.exports.stopNbdServer()).rejects.toThrow('NBD server not running');
  });

  it('lets a server start again at the same place', async () => {
    await start();
    await server.exports.stopNbdServer();
    await server.exports.startNbdServer({ addr: { type: 'unix', path: server.path } });
    await server.exports.add({ type: 'nbd', id: 'again', 'node-name': 'disk', name: '' });
    const client = await server.ready();
    expect(await client.request({ type: CMD.FLUSH })).toHaveLength(1);
  });
});

describe('max-connections', () => {
  it('leaves the next client waiting, ungreeted, until one has gone', async () => {
    await start({ 'max-connections': 2 });
    const first = await server.ready();
    await server.ready();
    const third = server.keep(await NbdWireClient.connect(server.path));
    let greeted = false;
    const greeting = third.receive(18).then(() => {
      greeted = true;
    });
    for (let turn = 0; turn < 20; turn++) await first.request({ type: CMD.FLUSH });
    expect(greeted).toBe(false);
    first.close();
    await greeting;
  });

  it('of one takes CAN_MULTI_CONN away', async () => {
    for (const [connections, flags] of [
      [1, '0c6d'],
      [2, '0d6d'],
      [0, '0d6d'],
    ] as const) {
      await start({ 'max-connections': connections });
      const client = await negotiating();
      const replies = await client.option(OPT.GO, infoRequest(''));
      expect(replies.at(-2)?.data.toString('hex').slice(-4)).toBe(flags);
      if (connections > 0) await server.close();
    }
  });
});

describe('handshake-max-seconds', () => {
  it('drops a client that has not chosen an export in time', async () => {
    await start({ 'handshake-max-seconds': 1 });
    // Again, where the machine stands still for that second.
    const slow = await vi.waitFor(negotiating, { timeout: 30_000 });
    const chosen = await vi.waitFor(() => server.ready(), { timeout: 30_000 });
    expect(await slow.receiveRest()).toHaveLength(0);
    expect(server.log).toContain(
      'option negotiation failed: Failed to read opts magic: ' +
        'Unexpected end-of-file before all data were read',
    );
    expect(await chosen.request({ type: CMD.FLUSH })).toHaveLength(1);
  });
});

describe('a client that does not read its replies', () => {
  it('is not read from any more, while others are served', async () => {
    await start();
    const greedy = await server.ready();
    const request = encodeRequest({ type: CMD.READ, flags: 4, length: 1024 * 1024 });
    greedy.pause();
    greedy.send(...Array.from({ length: 64 }, () => request));
    const other = await server.ready();
    for (let turn = 0; turn < 50; turn++) {
      const [reply] = await other.request({ type: CMD.READ, offset: DATA_START, length: 4096 });
      expect(reply?.data).toHaveLength(4096 + 8);
    }
    greedy.resume();
    await greedy.receive(64 * (1024 * 1024 + 28));
  });
});
