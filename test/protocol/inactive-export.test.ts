// What clients get from an export of an inactive node: what they read, and one error for everything else.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DATA_START,
  DISK_SIZE,
  diskByte,
  type NbdTestServer,
  startNbdTestServer,
} from './nbd-test-server.ts';
import { CMD, errorOf, FLAG, type NbdWireClient } from './nbd-wire-client.ts';

const EPERM = 1;
const EINVAL = 22;

let server: NbdTestServer;
beforeEach(async () => {
  server = await startNbdTestServer();
  // Nobody may write to what is to become inactive.
  await server.exports.remove('rw');
});
afterEach(() => server.close());

function ready(name: string, structured = true): Promise<NbdWireClient> {
  const contexts = structured ? { contexts: ['base:allocation'] } : {};
  return server.ready({ name, structured, ...contexts });
}

function isActive(): boolean {
  return server.graph.find(undefined, 'disk').active;
}

const added = { type: 'nbd', id: 'e', 'node-name': 'disk', name: 'e' } as const;

describe('an export of an inactive node', () => {
  beforeEach(async () => {
    await server.graph.setActive('disk', false);
    await server.exports.add({ ...added, 'allow-inactive': true });
  });

  it('does not make it active', () => {
    expect(isActive()).toBe(false);
  });

  it('can be read', async () => {
    const client = await ready('e');
    const [reply] = await client.request({
      type: CMD.READ,
      flags: FLAG.DF,
      offset: DATA_START,
      length: 4,
    });
    expect(reply?.data[8]).toBe(diskByte(DATA_START));
    const rest = await client.request({ type: CMD.READ, length: DISK_SIZE });
    expect(rest.map(errorOf)).toEqual(rest.map(() => undefined));
  });

  it.each([
    ['FLUSH', 0],
    ['CACHE', 4096],
    ['BLOCK_STATUS', 4096],
  ] as const)('refuses %s, with the reason', async (command, length) => {
    const client = await ready('e');
    const request = { type: CMD[command], length };
    const refused = { error: EPERM, text: 'export is inactive' };
    expect((await client.request(request)).map(errorOf)).toEqual([refused]);
    await server.graph.setActive('disk', true);
    expect((await client.request(request)).map(errorOf)).not.toContainEqual(refused);
    await server.graph.setActive('disk', false);
    expect((await client.request(request)).map(errorOf)).toEqual([refused]);
  });

  it('refuses without words where replies have none', async () => {
    const client = await ready('e', false);
    expect((await client.request({ type: CMD.FLUSH })).map(errorOf)).toEqual([
      { error: EPERM, text: '' },
    ]);
  });

  it('says first what is wrong with a request', async () => {
    const client = await ready('e');
    const beyond = await client.request({ type: CMD.CACHE, offset: DISK_SIZE, length: 512 });
    expect(beyond.map(errorOf)).toMatchObject([{ error: EINVAL }]);
    const write = await client.request({ type: CMD.WRITE, payload: Buffer.alloc(512) });
    expect(write.map(errorOf)).toMatchObject([{ text: 'Export is read-only' }]);
    expect(await client.request({ type: CMD.READ, length: 4096 })).toHaveLength(1);
  });

  it('goes on for clients that were there before', async () => {
    await server.graph.setActive('disk', true);
    const client = await ready('ro');
    await server.graph.setActive('disk', false);
    const [flushed] = await client.request({ type: CMD.FLUSH });
    expect(errorOf(flushed)).toMatchObject({ error: EPERM });
    expect(await client.request({ type: CMD.READ, length: 4096 })).toHaveLength(1);
  });
});

describe('block-export-add of an inactive node', () => {
  beforeEach(() => server.graph.setActive('disk', false));

  it('makes it active, unless told otherwise', async () => {
    await server.exports.add({ ...added, writable: true });
    expect(isActive()).toBe(true);
  });

  it('is refused for writing, if it has to stay inactive', async () => {
    await expect(
      server.exports.add({ ...added, writable: true, 'allow-inactive': true }),
    ).rejects.toThrow("Permission 'write' unavailable on inactive node");
    expect(isActive()).toBe(false);
    expect(server.exports.query()).toHaveLength(1);
  });

  it.each([
    { type: 'vhost-user-blk', addr: { type: 'unix', path: '/nowhere' } },
    { type: 'fuse', mountpoint: '/nowhere' },
  ] as const)('is refused for $type, if it has to stay inactive', async (options) => {
    await expect(
      server.exports.add({ id: 'e', 'node-name': 'disk', 'allow-inactive': true, ...options }),
    ).rejects.toThrow('Export type does not support inactive exports');
    expect(isActive()).toBe(false);
  });
});
