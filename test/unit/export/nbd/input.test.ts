import { describe, expect, it } from 'vitest';
import { BATCH_SIZE, BufferPool } from '../../../../src/export/nbd/buffer-pool.ts';
import { Input } from '../../../../src/export/nbd/input.ts';
import { WOULD_BLOCK } from '../../../../src/net/byte-channel.ts';
import { ioBufferOver } from '../../../../src/sys/memory.ts';
import { MemoryChannel } from './memory-channel.ts';

function setUp(): { channel: MemoryChannel; input: Input; taken: () => number } {
  let taken = 0;
  const pool = new BufferPool({
    allocate: (length) => {
      taken++;
      return ioBufferOver(Buffer.alloc(length));
    },
    release() {},
  });
  return {
    channel: new MemoryChannel(),
    input: new Input(pool, { nextHeard: () => 0 }),
    taken: () => taken,
  };
}

/** The unread bytes. */
function unread(input: Input): string {
  return input.buffer?.bytes.toString('latin1', input.start, input.end) ?? '';
}

describe('Input', () => {
  it('holds no buffer while nothing is in it', () => {
    const { channel, input } = setUp();
    expect(input.receive(channel, Infinity)).toBe(WOULD_BLOCK);
    input.releaseIdle();
    expect(input.buffer).toBeUndefined();
    channel.incoming = Buffer.from('abc');
    expect(input.receive(channel, 2)).toBe(2);
    input.releaseIdle();
    expect(unread(input)).toBe('ab');
    input.start = input.end;
    input.releaseIdle();
    expect(input.buffer).toBeUndefined();
  });

  it('moves unread bytes to the front to make room', () => {
    const { channel, input, taken } = setUp();
    channel.incoming = Buffer.alloc(BATCH_SIZE, 'x');
    input.receive(channel, Infinity);
    input.start = input.end - 10;
    channel.incoming = Buffer.from('more');
    input.makeRoom(1000);
    input.receive(channel, Infinity);
    expect(unread(input)).toBe(`${'x'.repeat(10)}more`);
    expect(input.start).toBe(0);
    expect(taken()).toBe(1);
  });

  it('leaves bytes in their place while a request reads from them', () => {
    const { channel, input, taken } = setUp();
    channel.incoming = Buffer.alloc(BATCH_SIZE, 'x');
    input.receive(channel, Infinity);
    const pinned = input.pin();
    const again = input.pin();
    input.start = input.end - 2;
    channel.incoming = Buffer.alloc(BATCH_SIZE - 2, 'y');
    input.receive(channel, Infinity);
    expect(pinned.bytes.every((byte) => byte === 0x78)).toBe(true);
    expect(input.buffer).not.toBe(pinned);
    expect(unread(input).slice(0, 3)).toBe('xxy');
    input.unpin(pinned);
    input.unpin(again);
    // Both buffers serve again.
    input.start = input.end;
    input.releaseIdle();
    channel.incoming = Buffer.alloc(BATCH_SIZE);
    input.receive(channel, Infinity);
    input.pin();
    input.makeRoom(BATCH_SIZE + 1);
    expect(taken()).toBe(2);
  });
});
