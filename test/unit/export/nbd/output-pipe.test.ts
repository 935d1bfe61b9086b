// Replies whose data are in a pipe: over a real socket pair, with a peer that takes little at a time.

import { describe, expect, it, onTestFinished } from 'vitest';
import { BATCH_SIZE, BufferPool } from '../../../../src/export/nbd/buffer-pool.ts';
import { Output } from '../../../../src/export/nbd/output.ts';
import { PipePool } from '../../../../src/export/nbd/pipe-pool.ts';
import { allocate, ioBufferOver } from '../../../../src/sys/memory.ts';
import { close, receive, send, socketPair } from '../../../../src/sys/socket.ts';
import { MemoryChannel } from './memory-channel.ts';

function bench() {
  const buffers = { given: 0 };
  const pool = new BufferPool({
    allocate: (length) => {
      buffers.given++;
      return ioBufferOver(Buffer.alloc(length));
    },
    release() {},
  });
  const output = new Output(pool);
  const pipes = new PipePool();
  const pairs = [socketPair(), socketPair()] as const;
  onTestFinished(() => {
    pipes.trim();
    pairs.flat().forEach(close);
  });
  const [[from, to], [near, far]] = pairs;
  const channel = new MemoryChannel();
  channel.send = (buffer, at, length) => send(near, buffer.address + at, length);
  channel.sendFrom = (pipe) => pipe.drain(near);
  const memory = allocate(1 << 20);
  const received = (max = memory.bytes.length): Buffer => {
    const count = receive(far, memory.address, max);
    return Buffer.from(memory.bytes.subarray(0, Math.max(0, count)));
  };
  /** A reply in a pipe, its first `front` bytes put there. */
  const deferred = (text: string, front: number): (() => void) => {
    output.reserve(text.length);
    const region = output.defer(text.length);
    return () => {
      const pipe = pipes.take(256 * 1024, 0);
      if (pipe === undefined) throw new Error('No pipe');
      const bytes = ioBufferOver(Buffer.from(text, 'latin1'));
      if (front > 0) pipe.put(bytes, 0, front);
      for (let done = front; done < text.length; ) {
        const sent = send(from, bytes.address + done, text.length - done);
        if (sent > 0) done += sent;
        pipe.fill(to, text.length);
      }
      output.completeWith(pipe, region);
    };
  };
  const put = (text: string): void => {
    const at = output.reserve(text.length);
    output.buffer.bytes.write(text, at, 'latin1');
    output.commit(text.length);
  };
  return { output, channel, received, deferred, put, pipes, buffers, pool };
}

describe('Output with pipes', () => {
  it('sends memory and pipes in the order in which they became ready', () => {
    const { output, channel, received, deferred, put } = bench();
    const first = deferred('(first)', 2);
    const second = deferred('(second)', 0);
    put('a');
    second();
    put('b');
    first();
    put('c');
    expect(output.length).toBe(18);
    expect(output.flush(channel)).toBe(true);
    expect(received().toString()).toBe('a(second)b(first)c');
    expect(output.length).toBe(0);
  });

  it('goes on where the peer stopped taking', () => {
    const { output, channel, received, deferred, put } = bench();
    const texts = Array.from({ length: 6 }, (_, at) => String(at).repeat(200_000 + at));
    for (const [at, text] of texts.entries()) {
      deferred(text, at * 100)();
      put('|');
    }
    const parts: Buffer[] = [];
    let isBlocked = false;
    for (let done = false; !done; ) {
      done = output.flush(channel);
      isBlocked ||= !done;
      parts.push(received(50_000));
    }
    expect(isBlocked).toBe(true);
    for (let part = received(); part.length > 0; part = received()) parts.push(part);
    expect(Buffer.concat(parts).equals(Buffer.from(texts.map((text) => `${text}|`).join('')))).toBe(
      true,
    );
  });

  it('gives back pipes and buffers that it is to forget', () => {
    const { output, deferred, pool, buffers } = bench();
    for (let at = 0; at < 40; at++) {
      // More than there are pipes, if one were kept.
      deferred('x'.repeat(1000), 10)();
      output.discard();
    }
    expect(output.length).toBe(0);
    pool.take(BATCH_SIZE);
    expect(buffers.given).toBe(1);
  });
});
