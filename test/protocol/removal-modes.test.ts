// The ways of removing an export that are ours: hide and soft.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ExtendedClient } from './extended-wire.ts';
import {
  addSlowExport,
  DATA_START,
  diskByte,
  type NbdTestServer,
  startNbdTestServer,
} from './nbd-test-server.ts';
import {
  CHUNK,
  CMD,
  encodeRequest,
  errorOf,
  FLAG,
  infoRequest,
  OPT,
  REP,
} from './nbd-wire-client.ts';

const ESHUTDOWN = 108;
const REMOVED = { error: ESHUTDOWN, text: 'Export is being removed' };
const GONE = 'BLOCK_EXPORT_DELETED rw';
const modes = ['hide', 'soft'] as const;

let server: NbdTestServer;
beforeEach(async () => {
  server = await startNbdTestServer();
});
afterEach(() => server.close());

function shuttingDown(): boolean | undefined {
  return server.exports.query().find(({ id }) => id === 'rw')?.['shutting-down'];
}

describe.each(modes)('removing an export with mode %s', (mode) => {
  it('has ended one that nobody uses, with its event, when it returns', async () => {
    await server.exports.retire('rw', mode);
    expect(server.events).toEqual([GONE]);
    expect(shuttingDown()).toBeUndefined();
  });

  it('keeps new clients from it, those that negotiate already among them', async () => {
    await server.ready();
    const negotiating = await server.greeted();
    await server.exports.retire('rw', mode);
    expect(shuttingDown()).toBe(true);
    for (const client of [negotiating, await server.greeted()]) {
      const listed = await client.option(OPT.LIST);
      expect(listed.map(({ type }) => type)).toEqual([REP.SERVER, REP.ACK]);
      const [reply] = await client.option(OPT.GO, infoRequest(''));
      expect(reply).toMatchObject({ type: REP.ERR_UNKNOWN });
    }
  });

  it('has ended it, with its event, when the last client has gone, and frees name and id', async () => {
    const first = await server.ready();
    const second = await server.ready();
    await server.exports.retire('rw', mode);
    await first.request({ type: CMD.FLUSH });
    first.close();
    await second.request({ type: CMD.FLUSH });
    expect(server.events).toEqual([]);
    second.sendRequest({ type: CMD.DISC });
    await server.emitted(GONE);
    expect(server.exports.query().map(({ id }) => id)).toEqual(['ro']);
    await server.exports.add({ type: 'nbd', id: 'rw', 'node-name': 'disk', name: '' });
    await server.ready();
  });

  it('frees its name at once', async () => {
    const client = await server.ready();
    await server.exports.retire('rw', mode);
    await server.exports.add({ type: 'nbd', id: 'new', 'node-name': 'disk', name: '' });
    await server.ready();
    await client.request({ type: CMD.FLUSH });
    expect(server.exports.query().map(({ id }) => id)).toEqual(['new', 'ro', 'rw']);
  });

  it('touches no other export', async () => {
    const other = await server.ready({ name: 'ro' });
    await server.ready();
    await server.exports.retire('rw', mode);
    expect(await other.request({ type: CMD.FLUSH })).toMatchObject([{ kind: 'simple', error: 0 }]);
  });

  it('can be followed by hard, and by nothing that is not harder', async () => {
    const client = await server.ready();
    await server.exports.retire('rw', mode);
    const refused = "Export 'rw' is already shutting down";
    await expect(server.exports.retire('rw', 'hide')).rejects.toThrow(refused);
    await expect(server.exports.remove('rw', 'safe')).rejects.toThrow(refused);
    await server.exports.remove('rw', 'hard');
    await server.emitted(GONE);
    await client.receiveRest();
    await expect(server.exports.remove('rw', 'hard')).rejects.toThrow('is not found');
  });

  it('ends with the server, and then says so once', async () => {
    await server.ready();
    await server.exports.retire('rw', mode);
    await server.exports.stopNbdServer();
    expect(server.events.toSorted()).toEqual(['BLOCK_EXPORT_DELETED ro', GONE]);
  });

  it('knows the export or says that it does not', async () => {
    await expect(server.exports.retire('nope', mode)).rejects.toThrow("Export 'nope' is not found");
  });
});

describe('hide', () => {
  it('lets clients go on reading and writing', async () => {
    const client = await server.ready();
    await server.exports.retire('rw', 'hide');
    await client.request({ type: CMD.WRITE, offset: 0, payload: Buffer.from('kept') });
    const [reply] = await client.request({ type: CMD.READ, flags: FLAG.DF, length: 4 });
    expect(reply?.data.toString('latin1', 8)).toBe('kept');
  });

  it('shows holes that clients of other exports make', async () => {
    const hidden = await server.ready();
    await hidden.request({ type: CMD.READ, offset: DATA_START, length: 4096 });
    await server.exports.retire('rw', 'hide');
    await server.exports.add({
      type: 'nbd',
      id: 'other',
      'node-name': 'disk',
      name: 'other',
      writable: true,
    });
    const other = await server.ready({ name: 'other' });
    await other.request({ type: CMD.WRITE_ZEROES, offset: DATA_START, length: 4096 });
    const read = { type: CMD.READ, offset: DATA_START, length: 4096 };
    expect(await hidden.request(read)).toMatchObject([{ type: CHUNK.OFFSET_HOLE }]);
  });

  it('can be followed by soft', async () => {
    const client = await server.ready();
    await server.exports.retire('rw', 'hide');
    await server.exports.retire('rw', 'soft');
    expect(errorOf((await client.request({ type: CMD.FLUSH }))[0])).toEqual(REMOVED);
    await expect(server.exports.retire('rw', 'hide')).rejects.toThrow('already shutting down');
  });
});

describe('soft', () => {
  it('answers every further request with ESHUTDOWN and carries none out', async () => {
    const client = await server.ready();
    const simple = await server.ready({ structured: false });
    const extended = await ExtendedClient.ready(server.path);
    server.keep(extended.wire);
    await server.exports.retire('rw', 'soft');
    const write = { type: CMD.WRITE, offset: DATA_START, payload: Buffer.alloc(4096) };
    for (const request of [{ type: CMD.READ, length: 512 }, write, { type: 9 }]) {
      expect(errorOf((await client.request(request))[0])).toEqual(REMOVED);
    }
    expect(await simple.request({ type: CMD.READ, length: 16 }, 16)).toMatchObject([
      { kind: 'simple', error: ESHUTDOWN },
    ]);
    const [chunk] = await extended.request({ type: CMD.READ, length: 16 });
    expect(chunk?.data.readUInt32BE(0)).toBe(ESHUTDOWN);
    const reader = await server.ready({ name: 'ro' });
    const [read] = await reader.request({ type: CMD.READ, offset: DATA_START, length: 1 });
    expect(read?.data[8]).toBe(diskByte(DATA_START));
  });

  it('finishes what is under way', async () => {
    const letGo = await addSlowExport(server);
    const client = await server.ready({ name: 'slow' });
    client.send(
      encodeRequest({ type: CMD.READ, flags: FLAG.DF, length: 512, cookie: 1n }),
      encodeRequest({ type: CMD.DISC }),
    );
    // The answer to another client shows that the server has seen the request.
    const other = await server.ready({ name: 'slow' });
    await server.exports.retire('slow', 'soft');
    letGo();
    expect(await client.reply()).toMatchObject({ cookie: 1n, type: CHUNK.OFFSET_DATA });
    expect(errorOf((await other.request({ type: CMD.FLUSH }))[0])).toEqual(REMOVED);
  });
});
