// An export whose disk another NBD server has, and large reads from it: their data pass through pipes, which must be seen only in
// how fast they are. Whatever a client or the server does, others get their data.

import { beforeEach, describe, expect, it } from 'vitest';
import {
  CONTEXT_ID,
  DISC,
  READ,
  type Script,
  WRITE,
} from '../unit/block/drivers/nbd/scripted-server.ts';
import { chunk, extents } from '../unit/block/drivers/nbd/server-bytes.ts';
import { CHUNK, CMD, errorOf, type NbdWireClient, type Reply } from './nbd-wire-client.ts';
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

let proxy: ScriptedProxy;
beforeEach(async () => {
  proxy = await startProxy();
});

const ready = (): Promise<NbdWireClient> => proxy.ready();
const upstream: ScriptedProxy['upstream'] = (script, options) => proxy.upstream(script, options);

interface Place {
  readonly offset: number;
  readonly length: number;
}

function ask(client: NbdWireClient, places: readonly Place[]): void {
  for (const [at, place] of places.entries()) {
    client.sendRequest({ type: CMD.READ, ...place, cookie: BigInt(at) });
  }
}

/** Whether the replies to these reads, in whatever order, have what the disk has. */
async function haveData(
  client: NbdWireClient,
  disk: Buffer,
  places: readonly Place[],
): Promise<boolean> {
  let right = 0;
  for (let left = places.length; left > 0; left--) {
    const reply: Reply = await client.reply();
    const place = places[Number(reply.cookie)] as Place;
    const expected = disk.subarray(place.offset, place.offset + place.length);
    if (reply.kind === 'chunk' && reply.done && reply.data.subarray(8).equals(expected)) right++;
  }
  return right === places.length;
}

function placesOf(count: number, seed: number): Place[] {
  const places: Place[] = [];
  let state = seed;
  const random = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 0x8000_0000;
    return Math.floor((state / 0x8000_0000) * below);
  };
  for (let at = 0; at < count; at++) {
    const length = 512 * (1 + random(at % 3 === 0 ? 16 : 1400));
    places.push({ offset: 512 * random((SIZE - length) / 512), length });
  }
  return places;
}

const same = (count: number): Place[] =>
  Array.from({ length: count }, (_, at) => ({ offset: at * 4096, length: LENGTH }));

describe('large reads of an export with an nbd node', () => {
  it('go on for others while a client takes nothing', async () => {
    const disk = freshDisk();
    const server = await upstream(serving(disk));
    const [slow, fast] = [await ready(), await ready()];
    const before = openPipes();
    slow.pause();
    ask(slow, same(40));
    await server.until(() => server.requests.length >= 2);
    for (let round = 0; round < 10; round++) {
      ask(fast, same(8));
      expect(await haveData(fast, disk, same(8))).toBe(true);
    }
    expect(openPipes()).toBeGreaterThan(before);
    expect(openPipes() - before).toBeLessThanOrEqual(64);
    slow.resume();
    expect(await haveData(slow, disk, same(40))).toBe(true);
  });

  it('have the right data, of whatever length, for many clients at once', async () => {
    const disk = freshDisk();
    await upstream(serving(disk));
    const clients = await Promise.all(Array.from({ length: 6 }, ready));
    const work = clients.map((client, at) => {
      const places = placesOf(24, at + 1);
      ask(client, places);
      return haveData(client, disk, places);
    });
    expect(await Promise.all(work)).toEqual(clients.map(() => true));
  });

  it('fail with an error when the server dies amid the data, and work again when it is back', async () => {
    const disk = freshDisk();
    const server = await upstream({
      answer: (request, to) => {
        if (request.type === DISC) return;
        const answer = answerOf(disk, request);
        if (server.connections > 1) to.send(answer);
        // One reply is whole, of the next one a part comes.
        else if (request.offset === 0) to.send(answer);
        else to.hangUp(answer.subarray(0, 200_000));
      },
    });
    const client = await ready();
    ask(client, [{ offset: 0, length: LENGTH }]);
    expect(await haveData(client, disk, [{ offset: 0, length: LENGTH }])).toBe(true);
    const read = { type: CMD.READ, offset: 4096, length: LENGTH };
    const [failed] = await client.request(read);
    expect(errorOf(failed)).toMatchObject({ error: NBD_EIO });
    // The first request finds that there is no server, and has it looked for.
    let again = failed;
    while (errorOf(again) !== undefined) [again] = await client.request(read);
    expect(again).toMatchObject({ type: CHUNK.OFFSET_DATA });
    expect(again?.data.subarray(8).equals(disk.subarray(4096, 4096 + LENGTH))).toBe(true);
  });

  it('are made again on another connection when the server dies amid the data', async () => {
    const disk = freshDisk();
    const script: Script = {
      answer: (request, to) => {
        if (request.type === DISC) return;
        const answer = answerOf(disk, request);
        if (server.connections > 1) to.send(answer);
        else to.hangUp(answer.subarray(0, 200_000));
      },
    };
    const server = await upstream(script, { 'reconnect-delay': 60 });
    const client = await ready();
    ask(client, same(8));
    expect(await haveData(client, disk, same(8))).toBe(true);
  });

  it('leave nothing open when clients go that have not taken their data', async () => {
    const disk = freshDisk();
    const server = await upstream(serving(disk));
    const before = openPipes();
    for (let round = 0; round < 4; round++) {
      const client = await ready();
      client.pause();
      const seen = server.requests.length;
      ask(client, same(16));
      await server.until(() => server.requests.length >= seen + 2);
      client.close();
    }
    const last = await ready();
    ask(last, same(8));
    expect(await haveData(last, disk, same(8))).toBe(true);
    await proxy.stop();
    expect(openPipes()).toBe(before);
  });

  it('see what was written before, with a flush or without', async () => {
    const disk = freshDisk();
    await upstream(serving(disk));
    const client = await ready();
    for (let round = 0; round < 12; round++) {
      const payload = Buffer.alloc(LENGTH, round + 1);
      const offset = (round % 3) * 8192;
      client.sendRequest({ type: CMD.WRITE, offset, payload });
      await client.reply();
      if (round % 2 === 0) await client.request({ type: CMD.FLUSH });
      const [reply] = await client.request({ type: CMD.READ, offset, length: LENGTH });
      expect(reply?.data.subarray(8).equals(payload)).toBe(true);
    }
  });

  it('find holes where the server has them', async () => {
    const disk = freshDisk();
    disk.fill(0, LENGTH, 2 * LENGTH);
    const script: Script = {
      hasContext: true,
      answer: (request, to) => {
        const { cookie, type, offset } = request;
        if (type === DISC) return;
        if (type === READ || type === WRITE) {
          to.send(answerOf(disk, request));
          return;
        }
        const part = Math.floor(offset / LENGTH);
        const rest = (part + 1) * LENGTH - offset;
        to.send(chunk(cookie, { type: 5, data: extents(CONTEXT_ID, [rest, part === 1 ? 3 : 0]) }));
      },
    };
    await upstream(script);
    const client = await ready();
    const replies = await client.request({ type: CMD.READ, offset: 4096, length: 3 * LENGTH });
    expect(replies).toMatchObject([
      { type: CHUNK.OFFSET_DATA },
      { type: CHUNK.OFFSET_HOLE },
      { type: CHUNK.OFFSET_DATA },
      { type: CHUNK.OFFSET_DATA },
    ]);
    const [first, , third] = replies as [Reply, Reply, Reply];
    expect(first.data.subarray(8).equals(disk.subarray(4096, LENGTH))).toBe(true);
    expect(third.data.subarray(8).equals(disk.subarray(2 * LENGTH, 3 * LENGTH))).toBe(true);
  });
});
