import { readdirSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { KernelPipe } from '../../../src/sys/pipe.ts';
import { close, receive, send, socketPair, WOULD_BLOCK } from '../../../src/sys/socket.ts';

const CAPACITY = 65_536;

function sockets(): readonly [number, number] {
  const pair = socketPair();
  onTestFinished(() => pair.forEach(close));
  return pair;
}

function open(capacity = CAPACITY): { pipe: KernelPipe; released: KernelPipe[] } {
  const released: KernelPipe[] = [];
  const pipe = new KernelPipe(capacity, (given) => released.push(given));
  onTestFinished(() => pipe.close());
  return { pipe, released };
}

const memory = allocate(2 * CAPACITY);

function filled(length: number): Buffer {
  const bytes = Buffer.from(Array.from({ length }, (_, at) => (at * 7) % 251));
  bytes.copy(memory.bytes);
  return bytes;
}

describe('KernelPipe', () => {
  it('passes bytes from one socket to another', () => {
    const [from, near] = sockets();
    const [to, far] = sockets();
    const { pipe } = open();
    const bytes = filled(10_000);
    send(from, memory.address, 10_000);
    expect(pipe.fill(near, 6000)).toBe(6000);
    expect(pipe.fill(near, 100_000)).toBe(4000);
    expect(pipe.length).toBe(10_000);
    let sent = 0;
    while (pipe.length > 0) sent += pipe.drain(to);
    expect(sent).toBe(10_000);
    memory.bytes.fill(0);
    expect(receive(far, memory.address, 20_000)).toBe(10_000);
    expect(memory.bytes.subarray(0, 10_000)).toEqual(bytes);
  });

  it('has in front what was put there, and gives all of it to memory', () => {
    const [from, near] = sockets();
    const { pipe } = open();
    const bytes = filled(5000);
    expect(pipe.put(memory, 0, 28)).toBe(true);
    send(from, memory.address + 28, 4972);
    expect(pipe.fill(near, 4972)).toBe(4972);
    pipe.empty(memory, CAPACITY);
    expect(pipe.length).toBe(0);
    expect(memory.bytes.subarray(CAPACITY, CAPACITY + 5000)).toEqual(bytes);
  });

  it('waits neither for bytes nor for room', () => {
    const [from, near] = sockets();
    const { pipe } = open(4096);
    expect(pipe.fill(near, 100)).toBe(WOULD_BLOCK);
    filled(4096);
    expect(pipe.put(memory, 0, 4096)).toBe(true);
    expect(pipe.put(memory, 0, 1)).toBe(false);
    send(from, memory.address, 100);
    expect(pipe.fill(near, 100)).toBe(WOULD_BLOCK);
    // The peer of `near` takes no more at some time.
    for (let taken = 0; taken !== WOULD_BLOCK; ) {
      taken = send(near, memory.address, memory.bytes.length);
    }
    expect(pipe.drain(near)).toBe(WOULD_BLOCK);
    expect(pipe.length).toBe(4096);
  });

  it('tells the end of the stream, and of a peer that is gone', () => {
    const pair = socketPair();
    const { pipe } = open();
    pipe.put(memory, 0, 100);
    close(pair[1]);
    expect(pipe.fill(pair[0], 100)).toBe(0);
    expect(() => pipe.drain(pair[0])).toThrow(new IoError(errno.EPIPE, { syscall: 'splice' }));
    close(pair[0]);
  });

  it('leaves to receiving what is wrong with a socket', () => {
    const { pipe } = open();
    expect(pipe.fill(-1, 100)).toBe(WOULD_BLOCK);
  });

  it('is released by whom it was told', () => {
    const { pipe, released } = open();
    pipe.release();
    expect(released).toEqual([pipe]);
  });

  it('leaves nothing open when it cannot be as large as it is to be', () => {
    const before = readdirSync('/proc/self/fd').length;
    expect(() => new KernelPipe(2 ** 31, () => {})).toThrow(IoError);
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});
