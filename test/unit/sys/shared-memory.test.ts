import { closeSync, fstatSync, readdirSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { type EventCounter, eventCounter } from '../../../src/sys/eventfd.ts';
import { libc } from '../../../src/sys/libc.ts';
import { createMemfd, mapShared } from '../../../src/sys/memfd.ts';
import { allocate } from '../../../src/sys/memory.ts';
import {
  MAX_DESCRIPTORS,
  receiveWithDescriptors,
  sendWithDescriptors,
} from '../../../src/sys/scm-rights.ts';
import { close, socketPair, WOULD_BLOCK } from '../../../src/sys/socket.ts';

const FD_CLOEXEC = 1;
const F_GETFD = 1;
const cleanups: (() => void)[] = [];
const memory = allocate(4096);

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function pair(): readonly [number, number] {
  const fds = socketPair();
  cleanups.push(() => fds.forEach(close));
  return fds;
}

function counter(): EventCounter {
  const made = eventCounter();
  cleanups.push(() => made.close());
  return made;
}

function sharedFile(length: number): number {
  const fd = createMemfd('test', length);
  cleanups.push(() => closeSync(fd));
  return fd;
}

const openDescriptors = () => readdirSync('/proc/self/fd').length;

describe('descriptors over a unix socket', () => {
  it('arrive with the bytes they were sent with, as copies, close-on-exec', () => {
    const [left, right] = pair();
    const file = sharedFile(8192);
    memory.bytes.write('bytes');
    expect(sendWithDescriptors(left, memory.address, 5, [file, file])).toBe(5);
    memory.bytes.fill(0);
    const received: number[] = [];
    expect(receiveWithDescriptors(right, memory.address, 100, received)).toBe(5);
    expect(memory.bytes.toString('latin1', 0, 5)).toBe('bytes');
    expect(received).toHaveLength(2);
    for (const fd of received) {
      expect(fd).not.toBe(file);
      expect(fstatSync(fd).ino).toBe(fstatSync(file).ino);
      expect(libc.fcntl(fd, F_GETFD, 0)).toBe(FD_CLOEXEC);
      close(fd);
    }
  });

  it('are none where none were sent', () => {
    const [left, right] = pair();
    const received: number[] = [];
    expect(receiveWithDescriptors(right, memory.address, 1, received)).toBe(WOULD_BLOCK);
    expect(sendWithDescriptors(left, memory.address, 1, [])).toBe(1);
    expect(receiveWithDescriptors(right, memory.address, 1, received)).toBe(1);
    close(left);
    expect(receiveWithDescriptors(right, memory.address, 1, received)).toBe(0);
    expect(received).toEqual([]);
  });

  it('all arrive, as many as the kernel carries', () => {
    const [left, right] = pair();
    const before = openDescriptors();
    const file = sharedFile(0);
    const many = Array.from({ length: MAX_DESCRIPTORS }, () => file);
    sendWithDescriptors(left, memory.address, 1, many);
    const received: number[] = [];
    receiveWithDescriptors(right, memory.address, 1, received);
    expect(received).toHaveLength(MAX_DESCRIPTORS);
    received.forEach(close);
    expect(openDescriptors()).toBe(before + 1);
    expect(() => sendWithDescriptors(left, memory.address, 1, [...many, file])).toThrow('sendmsg');
  });
});

describe('event counters', () => {
  it('tell once, however often they were signalled', () => {
    const event = counter();
    expect(event.take()).toBe(false);
    event.signal();
    event.signal();
    expect(event.take()).toBe(true);
    expect(event.take()).toBe(false);
  });
});

describe('shared memory', () => {
  it('shows the same bytes through every mapping of its descriptor', () => {
    const fd = sharedFile(3 * 4096);
    const whole = mapShared(fd, 0, 3 * 4096);
    const tail = mapShared(fd, 4096, 2 * 4096);
    cleanups.push(
      () => whole.unmap(),
      () => tail.unmap(),
    );
    whole.view.setUint32(4096, 0x12345678);
    expect(tail.view.getUint32(0)).toBe(0x12345678);
    expect(whole.bytes[0]).toBe(0);
  });

  it('cannot be had of a descriptor that is no memory, nor at half a page', () => {
    expect(() => mapShared(counter().fd, 0, 4096)).toThrow('mmap');
    expect(() => mapShared(sharedFile(4096), 512, 4096)).toThrow('mmap');
  });
});
