// Large writes to an export whose disk another NBD server has: their data pass through pipes, which must be seen only in how fast
// they are. Nothing of a write reaches the server before all of it has come.

import { beforeEach, describe, expect, it } from 'vitest';
import type { BlockdevOptions } from '../../src/qapi/generated/types.ts';
import {
  DISC,
  FLUSH,
  type Script,
  WRITE,
  WRITE_ZEROES,
} from '../unit/block/drivers/nbd/scripted-server.ts';
import { CMD, encodeRequest, errorOf, type NbdWireClient } from './nbd-wire-client.ts';
import {
  answerOf,
  freshDisk,
  LENGTH,
  NBD_EIO,
  openPipes,
  type ScriptedProxy,
  SIZE,
  serving,
  startProxy,
} from './scripted-proxy.ts';

const NBD_EINVAL = 22;

let proxy: ScriptedProxy;
beforeEach(async () => {
  proxy = await startProxy();
});

/** Bytes that are other than those of any other seed. */
function dataOf(length: number, seed: number): Buffer {
  const data = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) data.writeUInt32LE((at ^ (seed * 0x0101_0101)) >>> 0, at);
  return data;
}

async function write(client: NbdWireClient, offset: number, payload: Buffer): Promise<number> {
  const [reply] = await client.request({ type: CMD.WRITE, offset, payload });
  return errorOf(reply)?.error ?? -1;
}

/** Sends bytes in pieces of a length, each in a turn of its own. */
async function sendInPieces(client: NbdWireClient, bytes: Buffer, length: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += length) {
    client.send(bytes.subarray(at, at + length));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A server that answers nothing before it is told to. */
function patient(disk: Buffer): { readonly script: Script; readonly answerAll: () => void } {
  let isPatient = true;
  const late: (() => void)[] = [];
  const script: Script = {
    answer: (request, to) => {
      if (request.type === DISC) return;
      const reply = answerOf(disk, request);
      if (isPatient) late.push(() => to.send(reply));
      else to.send(reply);
    },
  };
  const answerAll = (): void => {
    isPatient = false;
    for (const send of late.splice(0)) send();
  };
  return { script, answerAll };
}

describe('large writes to an export with an nbd node', () => {
  it('have their data in pipes, which are closed with the server', async () => {
    const disk = freshDisk();
    const { script, answerAll } = patient(disk);
    const before = openPipes();
    const server = await proxy.upstream(script);
    const client = await proxy.ready();
    // More than is received with a header in any case.
    const length = 2 * LENGTH;
    for (let at = 0; at < 4; at++) {
      const payload = dataOf(length, at);
      client.sendRequest({ type: CMD.WRITE, cookie: BigInt(at), offset: at * length, payload });
    }
    await server.until(() => server.requests.length === 4);
    // The first may have come with more data than are put into a pipe.
    expect(openPipes() - before).toBeGreaterThanOrEqual(2 * 3);
    answerAll();
    for (let at = 0; at < 4; at++) expect(await client.reply()).toMatchObject({ error: 0 });
    for (let at = 0; at < 4; at++) {
      expect(disk.subarray(at * length, (at + 1) * length).equals(dataOf(length, at))).toBe(true);
    }
    client.close();
    await proxy.stop();
    expect(openPipes()).toBe(before);
  });

  it('write the right data, of whatever length, for many clients at once', async () => {
    const disk = freshDisk();
    await proxy.upstream(serving(disk));
    const expected = freshDisk();
    const lengths = [LENGTH, 512, 65_536, 70_144, 2 * LENGTH, 66_048, 4096, 2 * LENGTH + 512];
    const share = SIZE / 4;
    const work = [0, 1, 2, 3].map(async (number) => {
      const client = await proxy.ready();
      for (let round = 0; round < 12; round++) {
        const data = dataOf(
          lengths[(number + round) % lengths.length] as number,
          16 * number + round,
        );
        const room = (share - data.length) / 512;
        const offset = number * share + 512 * ((round * 397) % room);
        data.copy(expected, offset);
        expect(await write(client, offset, data)).toBe(0);
      }
    });
    await Promise.all(work);
    expect(disk.equals(expected)).toBe(true);
  });

  it('write the right data when these come in pieces, be they more than a pipe takes', async () => {
    const disk = freshDisk();
    await proxy.upstream(serving(disk));
    const client = await proxy.ready();
    expect(await write(client, 0, dataOf(LENGTH, 99))).toBe(0);
    for (const [at, piece] of [100_000, 30_000, 1000, 700, LENGTH].entries()) {
      const payload = dataOf(LENGTH, at + 1);
      const offset = at * 4096;
      await sendInPieces(client, encodeRequest({ type: CMD.WRITE, offset, payload }), piece);
      expect(await client.reply()).toMatchObject({ error: 0 });
      expect(disk.subarray(offset, offset + LENGTH).equals(payload)).toBe(true);
    }
  });

  it('leave nothing at the server, and nothing open, when a client goes amid the data', async () => {
    const disk = freshDisk();
    const before = openPipes();
    const server = await proxy.upstream(serving(disk));
    const other = await proxy.ready();
    expect(await write(other, 0, dataOf(LENGTH, 1))).toBe(0);
    const expected = Buffer.from(disk);
    for (const part of [28, 40_000, LENGTH]) {
      const client = await proxy.ready();
      const bytes = encodeRequest({ type: CMD.WRITE, offset: 8192, payload: dataOf(LENGTH, 7) });
      client.send(bytes.subarray(0, part));
      client.endSending();
      await client.receiveRest();
    }
    const count = server.requests.length;
    expect(await write(other, SIZE - LENGTH, dataOf(LENGTH, 2))).toBe(0);
    dataOf(LENGTH, 2).copy(expected, SIZE - LENGTH);
    expect(server.requests).toHaveLength(count + 1);
    expect(disk.equals(expected)).toBe(true);
    expect(server.connections).toBe(1);
    other.close();
    await proxy.stop();
    expect(openPipes()).toBe(before);
  });

  it('keep nobody waiting while a client does not go on with its data', async () => {
    const disk = freshDisk();
    await proxy.upstream(serving(disk));
    const [slow, fast] = [await proxy.ready(), await proxy.ready()];
    const payload = dataOf(LENGTH, 3);
    const bytes = encodeRequest({ type: CMD.WRITE, offset: 0, payload });
    slow.send(bytes.subarray(0, 150_000));
    for (let round = 0; round < 6; round++) {
      const data = dataOf(LENGTH, round + 8);
      expect(await write(fast, LENGTH, data)).toBe(0);
      const [reply] = await fast.request({ type: CMD.READ, offset: LENGTH, length: LENGTH });
      expect(reply?.data.subarray(8).equals(data)).toBe(true);
    }
    slow.send(bytes.subarray(150_000));
    expect(await slow.reply()).toMatchObject({ error: 0 });
    expect(disk.subarray(0, LENGTH).equals(payload)).toBe(true);
  });

  it('are received to their end when they must not be carried out', async () => {
    const disk = freshDisk();
    const server = await proxy.upstream(serving(disk));
    const client = await proxy.ready();
    const payload = dataOf(LENGTH, 5);
    expect(await write(client, SIZE - 4096, payload)).toBe(NBD_EINVAL);
    const [reply] = await client.request({ type: CMD.WRITE, flags: 0x40, offset: 0, payload });
    expect(errorOf(reply)).toMatchObject({ error: NBD_EINVAL });
    expect(server.requests).toHaveLength(0);
    expect(await write(client, 0, payload)).toBe(0);
    expect(disk.subarray(0, LENGTH).equals(payload)).toBe(true);
  });

  it('fail when the server dies amid the data, and work again when it is back', async () => {
    const disk = freshDisk();
    const before = openPipes();
    // It hangs up when the first header has come, with more data under way than sockets take.
    const server = await proxy.upstream({ answersEarly: true, answer: () => server.hangUp() });
    const client = await proxy.ready();
    const count = 12;
    for (let at = 0; at < count; at++) {
      const payload = dataOf(LENGTH, at);
      client.sendRequest({ type: CMD.WRITE, cookie: BigInt(at), offset: at * 4096, payload });
    }
    const failed = new Set<bigint>();
    while (failed.size < count) {
      const reply = await client.reply();
      expect(errorOf(reply)).toMatchObject({ error: NBD_EIO });
      failed.add(reply.cookie);
    }
    server.script = { ...serving(disk), size: SIZE, hasContext: false };
    // The first request finds that there is no server, and has it looked for.
    while ((await write(client, 0, dataOf(LENGTH, 1))) !== 0);
    expect(disk.subarray(0, LENGTH).equals(dataOf(LENGTH, 1))).toBe(true);
    client.close();
    await proxy.stop();
    expect(openPipes()).toBe(before);
  });

  it('are made again on another connection, where that is wanted', async () => {
    const disk = freshDisk();
    const hangsUp = (): void => {
      server.script = { ...serving(disk), size: SIZE, hasContext: false };
      server.hangUp();
    };
    const server = await proxy.upstream(
      { answersEarly: true, answer: hangsUp },
      { 'reconnect-delay': 60 },
    );
    const client = await proxy.ready();
    for (let at = 0; at < 8; at++) {
      const payload = dataOf(LENGTH, at);
      client.sendRequest({ type: CMD.WRITE, cookie: BigInt(at), offset: at * LENGTH, payload });
    }
    for (let at = 0; at < 8; at++) expect(await client.reply()).toMatchObject({ error: 0 });
    for (let at = 0; at < 8; at++) {
      expect(disk.subarray(at * LENGTH, (at + 1) * LENGTH).equals(dataOf(LENGTH, at))).toBe(true);
    }
  });

  it('have their data in memory for nodes that look at them', async () => {
    const disk = freshDisk();
    const { script, answerAll } = patient(disk);
    const server = await proxy.upstream(script, { 'detect-zeroes': 'on' });
    const before = openPipes();
    const client = await proxy.ready();
    client.sendRequest({ type: CMD.WRITE, offset: 0, payload: Buffer.alloc(LENGTH) });
    client.sendRequest({ type: CMD.WRITE, offset: LENGTH, payload: dataOf(LENGTH, 1) });
    await server.until(() => server.requests.length === 2);
    expect(openPipes()).toBe(before);
    answerAll();
    expect(server.requests).toMatchObject([
      { type: WRITE_ZEROES, offset: 0, length: LENGTH },
      { type: WRITE, offset: LENGTH, length: LENGTH },
    ]);
    expect(disk.subarray(LENGTH, 2 * LENGTH).equals(dataOf(LENGTH, 1))).toBe(true);
  });

  const above = [
    { driver: 'raw', 'node-name': 'top', file: 'n', offset: 65_536 },
    { driver: 'copy-on-read', 'node-name': 'top', file: 'n' },
  ] as const satisfies readonly BlockdevOptions[];
  for (const node of above) {
    it(`go through a ${node.driver} node`, async () => {
      const disk = freshDisk();
      const expected = freshDisk();
      await proxy.upstream(serving(disk), {}, [node]);
      const client = await proxy.ready();
      for (let round = 0; round < 3; round++) {
        const data = dataOf(LENGTH, round + 1);
        expect(await write(client, round * 512, data)).toBe(0);
        data.copy(expected, round * 512 + ('offset' in node ? node.offset : 0));
      }
      expect(disk.equals(expected)).toBe(true);
    });
  }

  it('are behind those that a flush separates from them', async () => {
    const disk = freshDisk();
    const server = await proxy.upstream(serving(disk));
    const client = await proxy.ready();
    for (let round = 0; round < 8; round++) {
      expect(await write(client, 0, dataOf(LENGTH, round))).toBe(0);
      await client.request({ type: CMD.FLUSH });
    }
    const types = server.requests.map(({ type }) => type);
    expect(types).toEqual(Array.from({ length: 8 }, () => [WRITE, FLUSH]).flat());
  });
});
