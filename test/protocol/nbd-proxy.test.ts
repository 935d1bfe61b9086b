// An export whose disk another NBD server has: what goes through in which order, and how much of it.

import { beforeEach, describe, expect, it } from 'vitest';
import {
  BLOCK_STATUS,
  CONTEXT_ID,
  DISC,
  FLUSH,
  READ,
  type Script,
  type ScriptedServer,
  type SeenRequest,
  WRITE,
  WRITE_ZEROES,
} from '../unit/block/drivers/nbd/scripted-server.ts';
import { chunk, dataAt, extents, simple } from '../unit/block/drivers/nbd/server-bytes.ts';
import { CHUNK, CMD, type Reply } from './nbd-wire-client.ts';
import { type ScriptedProxy, startProxy } from './scripted-proxy.ts';

const BLOCK = 512;
const SIZE = 1 << 20;

let proxy: ScriptedProxy;
beforeEach(async () => {
  proxy = await startProxy();
});

/** A server behind the proxy, with holes on its disk. */
function upstream(script: Script): Promise<ScriptedServer> {
  return proxy.upstream({ size: SIZE, hasContext: true, ...script });
}

/** A disk in memory whose replies are late, in reverse, and made of several chunks. */
function tardyDisk(): { readonly disk: Buffer; readonly script: Script } {
  const disk = Buffer.alloc(SIZE);
  let late: (() => void)[] = [];
  const replyTo = ({ cookie, type, offset, length, data }: SeenRequest): Buffer => {
    if (type === WRITE) data.copy(disk, offset);
    if (type === BLOCK_STATUS)
      return chunk(cookie, { type: 5, data: extents(CONTEXT_ID, [length, 0]) });
    if (type !== READ) return simple(cookie, 0);
    const half = length / 2;
    const part = (at: number): Buffer =>
      dataAt(offset + at, disk.subarray(offset + at, offset + at + half));
    return Buffer.concat([
      chunk(cookie, { type: 1, done: false, data: part(half) }),
      chunk(cookie, { type: 1, data: part(0) }),
    ]);
  };
  const script: Script = {
    answer: (request, to) => {
      if (request.type === DISC) return;
      const reply = replyTo(request);
      late.push(() => to.send(reply));
      if (late.length > 1) return;
      setImmediate(() => {
        const replies = late.reverse();
        late = [];
        for (const send of replies) send();
      });
    },
  };
  return { disk, script };
}

/** The data of a chunk, block by block. */
function blocksOf({ data }: Reply): Buffer[] {
  const bytes = data.subarray(8);
  return Array.from({ length: bytes.length / BLOCK }, (_, at) =>
    bytes.subarray(at * BLOCK, (at + 1) * BLOCK),
  );
}

describe('an export with an nbd node', () => {
  it('never lets by what a flush separates', async () => {
    const { script } = tardyDisk();
    const flushed: number[] = [];
    const server = await upstream({
      ...script,
      answer: (request, to) => {
        if (request.type === FLUSH) flushed.push(server.requests.length);
        script.answer?.(request, to);
      },
    });
    const writer = await proxy.ready();
    const other = await proxy.ready();
    const writes = 40;
    const rounds = 20;
    for (let round = 1; round <= rounds; round++) {
      // Every block is written twice in each round, and both times at once.
      for (let at = 0; at < writes; at++) {
        const payload = Buffer.alloc(2 * BLOCK, round);
        writer.sendRequest({ type: CMD.WRITE, offset: ((at * 7) % writes) * BLOCK, payload });
      }
      for (let at = 0; at < writes; at++) expect(await writer.reply()).toMatchObject({ error: 0 });
      // What one client was told to be written another may make durable.
      const flusher = round % 2 === 0 ? writer : other;
      expect(await flusher.request({ type: CMD.FLUSH })).toMatchObject([{ error: 0 }]);
      expect(flushed).toHaveLength(round);
    }
    const seen = server.requests.map(({ type, data }) => (type === WRITE ? data[0] : 'flush'));
    const expected = Array.from({ length: rounds }, (_, index) => [
      ...Array.from({ length: writes }, () => index + 1),
      'flush',
    ]);
    expect(seen).toEqual(expected.flat());
  });

  it('answers each of many requests that overlap, with what its server has', async () => {
    const { disk, script } = tardyDisk();
    await upstream(script);
    const client = await proxy.ready();
    const length = 8 * BLOCK;
    const count = 60;
    for (let at = 0; at < count; at++) {
      const offset = ((at * 5) % 16) * BLOCK;
      const cookie = BigInt(at);
      const request =
        at % 3 === 0
          ? { type: CMD.READ, offset, length }
          : { type: CMD.WRITE, offset, payload: Buffer.alloc(length, at) };
      client.sendRequest({ ...request, cookie });
    }
    const replies = new Map<bigint, Reply[]>();
    for (let left = count; left > 0; ) {
      const reply = await client.reply();
      replies.set(reply.cookie, [...(replies.get(reply.cookie) ?? []), reply]);
      if (reply.kind === 'simple' || reply.done) left--;
    }
    for (let at = 0; at < count; at++) {
      const reply = replies.get(BigInt(at)) ?? [];
      if (at % 3 !== 0) {
        expect(reply).toMatchObject([{ error: 0 }]);
        continue;
      }
      const read = reply.flatMap(blocksOf);
      expect(read).toHaveLength(length / BLOCK);
      for (const block of read) expect(block).toEqual(Buffer.alloc(BLOCK, block[0]));
    }
    const read = await client.request({ type: CMD.READ, offset: 0, length: 24 * BLOCK });
    expect(Buffer.concat(read.map(({ data }) => data.subarray(8)))).toEqual(
      disk.subarray(0, 24 * BLOCK),
    );
  });

  it('passes requests on while none is answered', async () => {
    const held: (() => void)[] = [];
    const server = await upstream({
      hasContext: false,
      answer: ({ cookie, type, offset, length }, to) => {
        const data = dataAt(offset, Buffer.alloc(length, offset / BLOCK));
        if (type === READ) held.push(() => to.send(chunk(cookie, { type: 1, data })));
        else if (type !== DISC) to.send(simple(cookie, 0));
      },
    });
    const client = await proxy.ready();
    const count = 16;
    for (let at = 0; at < count; at++) {
      client.sendRequest({ type: CMD.READ, offset: at * BLOCK, length: BLOCK, cookie: BigInt(at) });
      // Those before it are under way, and stay so.
      await server.until(() => held.length === at + 1);
    }
    for (const answer of held.reverse()) answer();
    for (let at = count - 1; at >= 0; at--) {
      const reply = await client.reply();
      expect(reply.cookie).toBe(BigInt(at));
      expect(blocksOf(reply)).toEqual([Buffer.alloc(BLOCK, at)]);
    }
  });

  it('asks only once where data lie', async () => {
    const { script } = tardyDisk();
    const server = await upstream(script);
    const client = await proxy.ready();
    for (const offset of [0, 4096, 65_536]) {
      const [reply] = await client.request({ type: CMD.READ, offset, length: 4096 });
      expect(reply).toMatchObject({ type: CHUNK.OFFSET_DATA });
    }
    expect(server.requests.map(({ type }) => type)).toEqual([BLOCK_STATUS, READ, READ, READ]);
  });

  it('asks only once for each of the pieces that data lie in', async () => {
    const piece = 65_536;
    const server = await upstream({
      answer: ({ cookie, type, offset, length }, to) => {
        const isHole = Math.floor(offset / piece) % 2 === 1;
        if (type === BLOCK_STATUS) {
          to.send(chunk(cookie, { type: 5, data: extents(CONTEXT_ID, [piece, isHole ? 3 : 0]) }));
        } else if (type === READ) {
          to.send(chunk(cookie, { type: 1, data: dataAt(offset, Buffer.alloc(length, 1)) }));
        } else if (type !== DISC) to.send(simple(cookie, 0));
      },
    });
    const client = await proxy.ready();
    for (const offset of [0, 2 * piece, 4 * piece, 512, 2 * piece, 4 * piece + 4096]) {
      const [reply] = await client.request({ type: CMD.READ, offset, length: 4096 });
      expect(reply).toMatchObject({ type: CHUNK.OFFSET_DATA });
    }
    const asked = server.requests.filter(({ type }) => type === BLOCK_STATUS);
    expect(asked.map(({ offset }) => offset)).toEqual([0, 2 * piece, 4 * piece]);
  });

  it('shows holes that were made while it asked where data lie', async () => {
    let isHole = false;
    let answerLate = (): void => {};
    const server = await upstream({
      answer: (request, to) => {
        const { cookie, type, offset, length } = request;
        if (type === WRITE_ZEROES) isHole = true;
        const status = chunk(cookie, {
          type: 5,
          data: extents(CONTEXT_ID, [length, isHole ? 3 : 0]),
        });
        const isFirst = server.requests.length === 1;
        if (type === BLOCK_STATUS && isFirst) answerLate = () => to.send(status);
        else if (type === BLOCK_STATUS) to.send(status);
        else if (type === READ) {
          to.send(chunk(cookie, { type: 1, data: dataAt(offset, Buffer.alloc(length, 1)) }));
        } else if (type !== DISC) to.send(simple(cookie, 0));
      },
    });
    const reader = await proxy.ready();
    const writer = await proxy.ready();
    const read = { type: CMD.READ, offset: 0, length: 4096 };
    reader.sendRequest(read);
    await server.until(() => server.requests.length === 1);
    await writer.request({ type: CMD.WRITE_ZEROES, offset: 0, length: 4096 });
    answerLate();
    expect(await reader.reply()).toMatchObject({ type: CHUNK.OFFSET_DATA });
    expect(await reader.request(read)).toMatchObject([{ type: CHUNK.OFFSET_HOLE }]);
  });
});
