// How the data of large writes are received: into a pipe if there is one, else, and when it does not take them, into memory.

import { describe, expect, it, onTestFinished } from 'vitest';
import { createTrace } from '../../../../src/base/trace.ts';
import { BufferPool } from '../../../../src/export/nbd/buffer-pool.ts';
import { Input } from '../../../../src/export/nbd/input.ts';
import { RequestReader } from '../../../../src/export/nbd/request-reader.ts';
import { UnderWay } from '../../../../src/export/nbd/under-way.ts';
import type { ByteChannel } from '../../../../src/net/byte-channel.ts';
import { allocate, ioBufferOver } from '../../../../src/sys/memory.ts';
import { KernelPipe } from '../../../../src/sys/pipe.ts';
import {
  close,
  receive,
  send,
  shutdown,
  socketPair,
  WOULD_BLOCK,
} from '../../../../src/sys/socket.ts';

const LENGTH = 64 * 1024;
const HEADER_SIZE = 28;
const WRITE = 1;
const CACHE = 5;

const data = Buffer.from(Array.from({ length: LENGTH }, (_, at) => (at * 7) % 251));

function headerOf(type = WRITE): Buffer {
  const header = Buffer.alloc(HEADER_SIZE);
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(type, 6);
  header.writeUInt32BE(LENGTH, 24);
  return header;
}

/** A reader of a socket with pipes of a capacity; 0 for none. */
function makeReader(capacity = 2 * LENGTH) {
  const [far, near] = socketPair();
  onTestFinished(() => [far, near].forEach(close));
  const pool = new BufferPool({ allocate, release() {} });
  onTestFinished(() => pool.trim());
  const pipes: KernelPipe[] = [];
  const released: KernelPipe[] = [];
  onTestFinished(() => {
    for (const pipe of pipes) pipe.close();
  });
  const channel: Partial<ByteChannel> = {
    receive: (into, at, max) => receive(near, into.address + at, max),
    receiveInto: (pipe, max) => pipe.fill(near, max),
  };
  const reader = new RequestReader({
    channel: channel as ByteChannel,
    input: new Input(pool, { nextHeard: () => 0 }),
    pool,
    trace: createTrace(),
    extendedHeaders: false,
    contexts: [],
    alignment: 1,
    mayBegin: () => true,
    takePipe() {
      if (capacity === 0) return undefined;
      const pipe = new KernelPipe(capacity, (given) => released.push(given));
      pipes.push(pipe);
      return pipe;
    },
  });
  const put = (bytes: Buffer): void => {
    expect(send(far, ioBufferOver(bytes).address, bytes.length)).toBe(bytes.length);
  };
  /** As whoever was told of bytes does it, until there is a request or nothing more. */
  const next = (): string => {
    let isNews = true;
    for (;;) {
      const frame = reader.next();
      if (frame !== 'incomplete') return frame;
      const received = reader.receive(isNews);
      isNews = false;
      if (received === WOULD_BLOCK) return 'blocked';
      if (received === 0) return 'ended';
    }
  };
  /** The data of the request, which is over then. */
  const taken = (): Buffer => {
    const { request } = reader;
    request.pipe?.empty(request.payload as NonNullable<typeof request.payload>, request.payloadAt);
    const bytes = request.payload?.bytes.subarray(
      request.payloadAt,
      request.payloadAt + request.length,
    );
    const copy = Buffer.from(bytes ?? []);
    reader.done();
    return copy;
  };
  return { reader, put, next, taken, pipes, released, hangUp: () => shutdown(far) };
}

/** The whole write in one go, its data in memory as long as the reader does not know that they are large. */
function warmUp({ put, next, taken }: ReturnType<typeof makeReader>): void {
  put(headerOf());
  expect(next()).toBe('blocked');
  put(data);
  expect(next()).toBe('complete');
  expect(taken().equals(data)).toBe(true);
}

describe('RequestReader', () => {
  it('has the data of a large write in a pipe, as they come', () => {
    const bench = makeReader();
    const { reader, put, next, taken, pipes, released } = bench;
    for (let round = 0; round < 3; round++) {
      put(headerOf());
      expect(next()).toBe('blocked');
      for (const [from, to] of [
        [0, 10_000],
        [10_000, 10_001],
        [10_001, LENGTH],
      ] as const) {
        put(data.subarray(from, to));
        expect(next()).toBe(to === LENGTH ? 'complete' : 'blocked');
      }
      expect(reader.request.pipe).toBe(pipes[round]);
      expect(pipes[round]?.length).toBe(LENGTH);
      expect(taken().equals(data)).toBe(true);
      expect(released).toHaveLength(round + 1);
    }
  });

  it('puts the first of them there when they have come with the header, but not many', () => {
    for (const { first, isPiped } of [
      { first: 4096, isPiped: true },
      { first: 4097, isPiped: false },
    ]) {
      const { reader, put, next, taken } = makeReader();
      put(Buffer.concat([headerOf(), data.subarray(0, first)]));
      expect(next()).toBe('blocked');
      put(data.subarray(first));
      expect(next()).toBe('complete');
      expect(reader.request.pipe !== undefined).toBe(isPiped);
      expect(taken().equals(data)).toBe(true);
    }
  });

  it('has them in memory where there is no pipe', () => {
    warmUp(makeReader(0));
  });

  it('has them in memory when the pipe does not take them, and so the next ones', () => {
    const bench = makeReader(4096);
    const { reader, put, next, taken, pipes, released } = bench;
    put(headerOf());
    expect(next()).toBe('blocked');
    put(data.subarray(0, 20));
    expect(next()).toBe('blocked');
    put(data.subarray(20, 50_000));
    expect(next()).toBe('blocked');
    put(data.subarray(50_000));
    // What the pipe took was less than there is: that is reported again.
    while (next() === 'blocked');
    expect(reader.request.pipe).toBeUndefined();
    expect(taken().equals(data)).toBe(true);
    expect(released).toEqual(pipes);
    for (let round = 0; round < 64; round++) warmUp(bench);
    expect(pipes).toHaveLength(1);
    put(headerOf());
    expect(next()).toBe('blocked');
    expect(pipes).toHaveLength(2);
  });

  it('keeps the pipe of a request that goes on until its end', () => {
    const bench = makeReader();
    const { reader, put, next, released } = bench;
    put(headerOf());
    expect(next()).toBe('blocked');
    put(data);
    expect(next()).toBe('complete');
    const kept = new UnderWay(() => {});
    reader.keep(kept);
    warmUp(bench);
    expect(released).toHaveLength(1);
    expect(kept.request.pipe?.length).toBe(LENGTH);
    reader.release(kept);
    expect(released).toHaveLength(2);
    expect(kept.request.pipe).toBeUndefined();
  });

  it('lets go of the pipe when the client goes amid the data', () => {
    const { reader, put, next, hangUp, pipes, released } = makeReader();
    put(headerOf());
    put(data.subarray(0, 30_000));
    expect(next()).toBe('blocked');
    expect(reader.inData).toBe(true);
    hangUp();
    expect(next()).toBe('ended');
    reader.discard();
    expect(released).toEqual(pipes);
  });

  it('takes no pipe for what is no data', () => {
    const { put, next, pipes } = makeReader();
    put(headerOf(CACHE));
    expect(next()).toBe('complete');
    expect(pipes).toHaveLength(0);
  });
});
