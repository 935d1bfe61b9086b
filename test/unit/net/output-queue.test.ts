import { describe, expect, it } from 'vitest';
import { HIGH_WATER_BYTES, OutputQueue } from '../../../src/net/chardev/output-queue.ts';
import { allocate } from '../../../src/sys/memory.ts';

/** A queue in front of a peer that takes `room` bytes. */
function queueTo(peer: { room: number; taken: string; drains: number; wants: boolean }) {
  return new OutputQueue({
    memory: allocate(4096),
    send(from, at, length) {
      if (peer.room === 0) return -1;
      const count = Math.min(length, peer.room);
      peer.room -= count;
      peer.taken += from.bytes.toString('latin1', at, at + count);
      return count;
    },
    wantRoom(want) {
      peer.wants = want;
    },
    onDrain() {
      peer.drains += 1;
    },
  });
}

function stalledPeer(room: number) {
  return { room, taken: '', drains: 0, wants: false };
}

describe('OutputQueue', () => {
  it('sends at once while there is room, larger than its memory too', () => {
    const peer = stalledPeer(1e6);
    expect(queueTo(peer).write(Buffer.alloc(10_000, 'x'))).toBe(true);
    expect(peer.taken.length).toBe(10_000);
    expect(peer.wants).toBe(false);
  });

  it('keeps a copy of the rest, in order', () => {
    const peer = stalledPeer(2);
    const queue = queueTo(peer);
    const bytes = Buffer.from('abcd');
    queue.write(bytes);
    bytes.fill('X');
    queue.write(Buffer.from('ef'));
    expect([queue.pending, peer.wants]).toEqual([4, true]);
    peer.room = 3;
    queue.flush();
    expect([queue.pending, peer.wants]).toEqual([1, true]);
    peer.room = 10;
    queue.flush();
    expect([peer.taken, queue.pending, peer.wants]).toEqual(['abcdef', 0, false]);
  });

  it('tells the writer once when there is room after it was told to wait', () => {
    const peer = stalledPeer(0);
    const queue = queueTo(peer);
    expect(queue.write(Buffer.alloc(HIGH_WATER_BYTES))).toBe(true);
    expect(queue.write(Buffer.alloc(1))).toBe(false);
    peer.room = 10_000;
    queue.flush();
    expect(peer.drains).toBe(0);
    peer.room = HIGH_WATER_BYTES;
    queue.flush();
    queue.flush();
    expect(peer.drains).toBe(1);
    expect(queue.write(Buffer.alloc(1))).toBe(true);
  });

  it('is empty after clear, and says so', async () => {
    const peer = stalledPeer(0);
    const queue = queueTo(peer);
    queue.write(Buffer.from('abc'));
    const empty = queue.whenEmpty();
    queue.clear();
    await empty;
    expect([queue.pending, peer.wants]).toEqual([0, false]);
  });
});
