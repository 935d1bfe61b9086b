// Replies whose data the kernel takes from a file: over a real socket pair, from real files.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BufferPool } from '../../../../src/export/nbd/buffer-pool.ts';
import { Output } from '../../../../src/export/nbd/output.ts';
import { closeFile, O_RDONLY, openFile } from '../../../../src/sys/file.ts';
import { allocate, ioBufferOver } from '../../../../src/sys/memory.ts';
import { close, FileSender, receive, socketPair, WOULD_BLOCK } from '../../../../src/sys/socket.ts';
import { MemoryChannel } from './memory-channel.ts';

const HEADER = Buffer.from('the header of it');

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function fileWith(content: Buffer): number {
  const directory = mkdtempSync(join(tmpdir(), 'output-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'file'), content);
  const fd = openFile(join(directory, 'file'), O_RDONLY);
  cleanups.push(() => closeFile(fd));
  return fd;
}

function makeOutput(): Output {
  const allocateBytes = (length: number) => ioBufferOver(Buffer.alloc(length, 0xee));
  return new Output(new BufferPool({ allocate: allocateBytes, release() {} }));
}

const header = {
  size: HEADER.length,
  write: (buffer: { readonly bytes: Buffer }, at: number) => void HEADER.copy(buffer.bytes, at),
};

function patterned(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) % 251));
}

/** A peer over a socket pair: what is sent through `channel`, and what it has received until now. */
function peer() {
  const [near, far] = socketPair();
  cleanups.push(() => close(near));
  cleanups.push(() => close(far));
  const sender = new FileSender();
  const channel = new MemoryChannel();
  channel.sendFile = (from, at, headerLength, file, length) =>
    sender.send(near, { address: from.address + at, length: headerLength }, file, length);
  const memory = allocate(1 << 20);
  const received = (): Buffer => {
    const parts: Buffer[] = [];
    for (;;) {
      const count = receive(far, memory.address, memory.bytes.length);
      if (count <= 0) return Buffer.concat(parts);
      parts.push(Buffer.from(memory.bytes.subarray(0, count)));
    }
  };
  return { channel, received };
}

describe('Output.sendFile', () => {
  it('sends the header and the range of the file', () => {
    const content = patterned(100_000);
    const { channel, received } = peer();
    const output = makeOutput();
    const range = { fd: fileWith(content), offset: 5000 };
    expect(output.sendFile(channel, header, range, 70_000)).toBe(true);
    expect(output.length).toBe(0);
    expect(received()).toEqual(Buffer.concat([HEADER, content.subarray(5000, 75_000)]));
  });

  it('keeps what the peer does not take, wherever it stops', () => {
    const content = patterned(300);
    const fd = fileWith(content);
    for (let taken = 1; taken <= HEADER.length + 200; taken++) {
      const channel = new MemoryChannel();
      const sent: Buffer[] = [];
      channel.sendFile = (from, at, headerLength, file, length) => {
        const fromHeader = Math.min(taken, headerLength);
        sent.push(Buffer.from(from.bytes.subarray(at, at + fromHeader)));
        sent.push(
          content.subarray(file.offset, file.offset + Math.min(taken - fromHeader, length)),
        );
        return taken;
      };
      const output = makeOutput();
      expect(output.sendFile(channel, header, { fd, offset: 100 }, 200)).toBe(true);
      expect(output.length).toBe(HEADER.length + 200 - taken);
      expect(output.flush(channel)).toBe(true);
      const all = Buffer.concat([...sent, ...channel.sent]);
      expect(all).toEqual(Buffer.concat([HEADER, content.subarray(100, 300)]));
    }
  });

  it('does nothing when the peer takes nothing', () => {
    const channel = new MemoryChannel();
    channel.sendFile = () => WOULD_BLOCK;
    const output = makeOutput();
    const range = { fd: fileWith(patterned(300)), offset: 0 };
    expect(output.sendFile(channel, header, range, 200)).toBe(false);
    expect(output.length).toBe(0);
    expect(output.flush(channel)).toBe(true);
    expect(channel.sent).toEqual([]);
  });

  it('sends zeroes behind the end of a file that has become shorter', () => {
    const content = patterned(1000);
    const { channel, received } = peer();
    const output = makeOutput();
    expect(output.sendFile(channel, header, { fd: fileWith(content), offset: 900 }, 300)).toBe(
      true,
    );
    const rest: MemoryChannel = new MemoryChannel();
    expect(output.flush(rest)).toBe(true);
    const all = Buffer.concat([received(), ...rest.sent]);
    expect(all).toEqual(Buffer.concat([HEADER, content.subarray(900), Buffer.alloc(200)]));
  });

  it('goes on with ordinary replies behind', () => {
    const content = patterned(70_000);
    const { channel } = peer();
    const output = makeOutput();
    output.sendFile(channel, header, { fd: fileWith(content), offset: 0 }, 65_536);
    output.append(Buffer.from('next'));
    expect(output.flush(channel)).toBe(true);
    expect(Buffer.concat(channel.sent).toString()).toBe('next');
  });
});
