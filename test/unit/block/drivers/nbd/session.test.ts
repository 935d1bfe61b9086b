// What becomes of requests when connections come and go, and what requests look like to the server.

import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { errno } from '../../../../../src/base/errno.ts';
import { FUA, MAY_UNMAP, NO_FALLBACK } from '../../../../../src/block/block-driver.ts';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import { discard, prefetch, read, write, writeZeroes } from '../../../../../src/block/io.ts';
import { flush } from '../../../../../src/block/io-flush.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import {
  ALL_FLAGS,
  CACHE,
  clientOf,
  DISC,
  FLUSH,
  liveGraph,
  optionsFor,
  READ,
  type Script,
  type SeenRequest,
  startServer,
  TRIM,
  WRITE,
  WRITE_ZEROES,
} from './scripted-server.ts';
import { chunk, dataAt, extendedChunk, simple } from './server-bytes.ts';

const buffer = allocate(64 * 1024);
const eio = { errno: errno.EIO };

/** Rejects whether the read fails at once or later. */
async function readOnce(node: BlockNode): Promise<void> {
  await read(node, 0, 512, buffer, 0);
}

function right({ cookie, type, offset, length }: SeenRequest): Buffer {
  if (type !== READ) return simple(cookie, 0);
  return chunk(cookie, { type: 1, data: dataAt(offset, Buffer.alloc(length, 7)) });
}

const obliging: Script = {
  answer: (request, to) => {
    if (request.type !== DISC) to.send(right(request));
  },
};

describe('requests', () => {
  it('are at most 16 at a time, and the others follow', async () => {
    const held: (() => void)[] = [];
    const { node, server } = await clientOf({
      answer: (request, to) => void held.push(() => to.send(right(request))),
    });
    const reads = Array.from({ length: 20 }, async (_, index) =>
      read(node, index * 512, 512, buffer, 0),
    );
    await server.until(() => held.length === 16);
    expect(server.requests.map(({ offset }) => offset / 512)).toEqual([...Array(16).keys()]);
    for (const answer of held.splice(0)) answer();
    await server.until(() => held.length === 4);
    for (const answer of held) answer();
    await Promise.all(reads);
  });

  it('may be answered in any order', async () => {
    const held: (() => void)[] = [];
    const { node, server } = await clientOf({
      answer: (request, to) => void held.push(() => to.send(right(request))),
    });
    const reads = Array.from({ length: 8 }, async (_, index) =>
      read(node, index * 512, 512, buffer, 0),
    );
    await server.until(() => held.length === 8);
    for (const answer of held.reverse()) answer();
    await Promise.all(reads);
  });

  it('are cut where the server takes no more at once', async () => {
    const { node, server } = await clientOf({ ...obliging, blockSizes: [512, 4096, 8192] });
    await write(node, 0, 20_480, buffer, 0);
    await read(node, 1000, 100, buffer, 0);
    expect(server.requests.map(({ type, offset, length }) => [type, offset, length])).toEqual([
      [WRITE, 0, 8192],
      [WRITE, 8192, 8192],
      [WRITE, 16_384, 4096],
      [READ, 512, 1024],
    ]);
  });

  it('bear the flags of the protocol', async () => {
    const { node, server } = await clientOf(obliging);
    await write(node, 0, 512, buffer, 0, FUA);
    await writeZeroes(node, 0, 512);
    await writeZeroes(node, 0, 512, MAY_UNMAP | NO_FALLBACK | FUA);
    await discard(node, 0, 512);
    await flush(node);
    expect(server.requests.map(({ type, flags }) => [type, flags])).toEqual([
      [WRITE, 1],
      [WRITE_ZEROES, 2],
      [WRITE_ZEROES, 17],
      [TRIM, 0],
      [FLUSH, 0],
    ]);
  });

  it('with extended headers say which of them have a payload', async () => {
    const { node, server } = await clientOf({
      headers: 'extended',
      answer: ({ cookie, offset, type }, to) => {
        if (type !== DISC) to.send(extendedChunk(cookie, offset, { type: 0 }));
      },
    });
    await write(node, 0, 512, buffer, 0);
    await write(node, 0, 64 * 1024, buffer, 0, FUA);
    await writeZeroes(node, 0, 512);
    expect(server.requests.map(({ type, flags, length }) => [type, flags, length])).toEqual([
      [WRITE, 32, 512],
      [WRITE, 33, 64 * 1024],
      [WRITE_ZEROES, 2, 512],
    ]);
  });

  it('for a cache are cut, too, and go only where there is one', async () => {
    const { graph, node, server } = await clientOf({
      ...obliging,
      blockSizes: [512, 4096, 8192],
    });
    await prefetch(node, 1000, 10_000);
    const over = { driver: 'raw', 'node-name': 'r', file: 'n', offset: 4096 } as const;
    await prefetch(await graph.add(over), 512, 512);
    const { node: without, server: other } = await clientOf({ ...obliging, flags: 1 });
    await prefetch(without, 0, 512);
    expect(server.requests.map(({ type, offset, length }) => [type, offset, length])).toEqual([
      [CACHE, 512, 8192],
      [CACHE, 8704, 2560],
      [CACHE, 4608, 512],
    ]);
    expect(other.requests).toEqual([]);
  });

  it('that a flush separates keep their order, whatever is answered when and lost meanwhile', async () => {
    const blocks = 24;
    const disk = new Uint8Array(blocks);
    const stale: number[] = [];
    const flushed: number[] = [];
    let seen = 0;
    let replies: (() => void)[] = [];
    const { node, server } = await clientOf(
      {
        answer: (request, to) => {
          if (request.type === DISC) return;
          seen++;
          // Lost before or after it counted: nobody can tell which.
          if (seen % 80 === 40) return to.hangUp();
          if (request.type === WRITE) {
            const block = request.offset / 512;
            const [round = 0] = request.data;
            if (round < (disk[block] ?? 0)) stale.push(round);
            disk[block] = round;
          } else {
            flushed.push(Math.min(...disk));
          }
          if (seen % 80 === 0) return to.hangUp();
          replies.push(() => to.send(right(request)));
          if (replies.length > 1) return undefined;
          setImmediate(() => {
            const late = replies.reverse();
            replies = [];
            for (const reply of late) reply();
          });
          return undefined;
        },
      },
      { 'reconnect-delay': 60 },
    );
    const data = allocate(512);
    for (let round = 1; round <= 20; round++) {
      data.bytes.fill(round);
      await Promise.all(
        Array.from({ length: blocks }, async (_, block) => write(node, block * 512, 512, data, 0)),
      );
      await flush(node);
      // What was written before it was there when it came, even if it had to come again.
      expect(flushed.at(-1)).toBe(round);
    }
    expect(stale).toEqual([]);
    expect(server.connections).toBeGreaterThan(5);
  });

  it('do without what the server does not offer', async () => {
    const { node, server } = await clientOf({ ...obliging, flags: 1 });
    await write(node, 0, 512, buffer, 0, FUA);
    await writeZeroes(node, 512, 512);
    await discard(node, 0, 512);
    await flush(node);
    expect(server.requests.map(({ type, flags }) => [type, flags])).toEqual([
      [WRITE, 0],
      [WRITE, 0],
    ]);
  });

  it('end behind the last byte of an export that is not whole sectors', async () => {
    const { node, server } = await clientOf({ ...obliging, size: 1000 });
    buffer.bytes.fill(1, 0, 1024);
    await read(node, 512, 512, buffer, 0);
    expect(server.requests.map(({ offset, length }) => [offset, length])).toEqual([[512, 488]]);
    expect(buffer.bytes.subarray(0, 512)).toEqual(
      Buffer.concat([Buffer.alloc(488, 7), Buffer.alloc(24)]),
    );
  });

  it('end with NBD_CMD_DISC when the node goes', async () => {
    const { graph, server } = await clientOf(obliging);
    await graph.remove('n');
    await server.until(() => server.open === 0);
    expect(server.requests.at(-1)?.type).toBe(DISC);
  });

  it('of a write that failed are not made again by a flush', async () => {
    const { node, server } = await clientOf({
      answer: ({ cookie, type }, to) => to.send(simple(cookie, type === WRITE ? 28 : 0)),
    });
    await expect(write(node, 0, 512, buffer, 0)).rejects.toMatchObject({ errno: errno.ENOSPC });
    await flush(node);
    expect(server.requests.map(({ type }) => type)).toEqual([WRITE, FLUSH]);
  });
});

/** Hangs up at the first request of the first connection, after saying this much. */
function dying(says: (request: SeenRequest) => Buffer): Script {
  let isFirst = true;
  return {
    answer: (request, to) => {
      if (request.type === DISC) return;
      if (isFirst) to.hangUp(says(request));
      else to.send(right(request));
      isFirst = false;
    },
  };
}

const deaths: readonly (readonly [string, (request: SeenRequest) => Buffer])[] = [
  ['before a reply', () => Buffer.alloc(0)],
  ['within a magic', (request) => right(request).subarray(0, 2)],
  ['within a header', (request) => right(request).subarray(0, 15)],
  ['within an offset', (request) => right(request).subarray(0, 25)],
  ['within data', (request) => right(request).subarray(0, 300)],
];

describe('a server that dies', () => {
  it.each(deaths)(
    '%s: without a delay the request fails, and a later one succeeds',
    async (_, says) => {
      const { node, server, logged } = await clientOf(dying(says));
      await expect(readOnce(node)).rejects.toMatchObject(eio);
      // This one begins the search.
      await expect(readOnce(node)).rejects.toMatchObject(eio);
      await server.until(() => server.connections === 2);
      for (;;) {
        try {
          await read(node, 0, 512, buffer, 0);
          break;
        } catch (error) {
          expect(error).toMatchObject(eio);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      expect(logged).toEqual([]);
    },
  );

  it.each(deaths)('%s: with a delay the request is made again', async (_, says) => {
    const { node, server, logged } = await clientOf(dying(says), { 'reconnect-delay': 60 });
    buffer.bytes.fill(0, 0, 512);
    await read(node, 0, 512, buffer, 0);
    expect(buffer.bytes.subarray(0, 512)).toEqual(Buffer.alloc(512, 7));
    expect(server.connections).toBe(2);
    expect(logged).toEqual([]);
  });

  it('leaves those that were under way first in line', async () => {
    let first = true;
    const { node, server } = await clientOf(
      {
        answer: (request, to) => {
          if (!first) to.send(right(request));
          else if (server.requests.length === 16) {
            first = false;
            to.hangUp();
          }
        },
      },
      { 'reconnect-delay': 60 },
    );
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => write(node, index * 512, 512, buffer, 0)),
    );
    const again = server.requests.slice(16).map(({ offset }) => offset / 512);
    expect(again).toEqual([...Array(20).keys()]);
  });

  it('and does not come back: requests fail when the delay is over', async () => {
    const { node, server } = await clientOf(obliging, { 'reconnect-delay': 1 });
    await read(node, 0, 512, buffer, 0);
    await server.stop();
    await expect(readOnce(node)).rejects.toMatchObject(eio);
    await expect(flush(node)).rejects.toMatchObject(eio);
  });

  it('and comes back with less is not taken', async () => {
    const { node, server } = await clientOf(obliging, { 'reconnect-delay': 1 });
    server.script = { ...obliging, flags: ALL_FLAGS & ~8 };
    server.hangUp();
    await expect(readOnce(node)).rejects.toMatchObject(eio);
    expect(server.requests.map(({ type }) => type)).toEqual([DISC]);
  });
});

describe('the first connection', () => {
  it('asks for an export and a context with the longest names there may be', async () => {
    const { node } = await clientOf(obliging, {
      export: 'e'.repeat(4096),
      'x-dirty-bitmap': 'c'.repeat(4096),
    });
    await read(node, 0, 512, buffer, 0);
  });

  it('leaves nothing behind that waits for the end of the graph when there is no server', async () => {
    const server = await startServer({ greets: () => false });
    const { graph } = liveGraph();
    const added = vi.spyOn(AbortSignal.prototype, 'addEventListener');
    const removed = vi.spyOn(AbortSignal.prototype, 'removeEventListener');
    onTestFinished(() => {
      vi.restoreAllMocks();
    });
    await expect(graph.add(optionsFor(server))).rejects.toThrow('Failed to read');
    const listeners = (spy: typeof added): unknown[] =>
      spy.mock.calls.map(([, listener]) => listener);
    expect(listeners(removed)).toEqual(expect.arrayContaining(listeners(added)));
  });

  it('is tried again for as long as open-timeout says', async () => {
    const { graph } = liveGraph();
    const server = await startServer({ ...obliging, greets: (connection) => connection > 0 });
    const node = await graph.add(optionsFor(server, { 'open-timeout': 60 }));
    await read(node, 0, 512, buffer, 0);
    expect(server.connections).toBe(2);
  });

  it('fails for the last reason when the time is over', async () => {
    const { graph } = liveGraph();
    const server = await startServer({ greets: () => false });
    await expect(graph.add(optionsFor(server, { 'open-timeout': 1 }))).rejects.toThrow(
      'Failed to read initial magic: Unexpected end-of-file before all data were read',
    );
  });

  it('to a server that says nothing is given up when the graph is closed', async () => {
    const { graph } = liveGraph();
    const server = await startServer({ greets: () => true });
    server.script = { ...obliging, isSilent: true };
    const adding = graph.add(optionsFor(server));
    adding.catch(() => {});
    await server.until(() => server.connections === 1);
    await graph.close();
    await expect(adding).rejects.toThrow('The daemon has ended');
  });
});
