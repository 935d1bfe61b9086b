// What a frontend says about rings: sizes, begins, whether they are served, and where their requests are noted.

import { describe, expect, it, onTestFinished } from 'vitest';
import { close } from '../../../src/sys/socket.ts';
import { negotiate, shareMemory } from './bring-up.ts';
import { connectFrontend, guestMemory, startDevice, startQueue } from './device.ts';
import type { Frontend } from './frontend.ts';
import { REQUEST, vringState } from './messages.ts';
import { numbered, ourSide, serveDisk, sides } from './serve.ts';
import { createMemfd, mapShared } from './shared-descriptors.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';
import { Virtqueue } from './virtqueue.ts';

const none = Buffer.alloc(0);
const QUEUE_SIZE = 128;
/** Bytes of the area for one queue of that size (vhost-user, "Inflight I/O tracking"). */
const AREA = 2112;

function inflightArea(size: number, queueSize = QUEUE_SIZE): Buffer {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(BigInt(size), 0);
  payload.writeUInt16LE(1, 16);
  payload.writeUInt16LE(queueSize, 18);
  return payload;
}

function testMemfd(length: number, options: { readonly sealed: boolean }): number {
  const fd = createMemfd(length, options);
  onTestFinished(() => close(fd));
  return fd;
}

/** A device that knows its memory, and a ring that it knows nothing of. */
async function beforeRings(socket: string): Promise<{ frontend: Frontend; queue: Virtqueue }> {
  const frontend = await connectFrontend(socket);
  await negotiate(frontend);
  const memory = guestMemory();
  await shareMemory(frontend, memory);
  const queue = new Virtqueue(memory, { size: QUEUE_SIZE, indirect: true, eventIndex: true });
  return { frontend, queue };
}

describe.each(sides)('rings: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('are served on when a frontend of old resets the owner', async () => {
    const { socket } = await serveDisk(side);
    const { frontend, disk } = await startDevice(socket);
    expect(await frontend.acknowledged(REQUEST.RESET_OWNER, none)).toBe(0n);
    expect((await disk.read(0, SECTOR)).in.equals(numbered(SECTOR))).toBe(true);
  });
});

describe('a ring', () => {
  it('is served while it is enabled, and then what came meanwhile, too', async () => {
    const { socket } = await serveDisk(ourSide, { options: 'writable=on,num-queues=2' });
    const { frontend, disks } = await startDevice(socket, { queues: 2 });
    const [first, second] = disks;
    if (first === undefined || second === undefined) throw new Error('there are two queues');
    await frontend.acknowledged(REQUEST.SET_VRING_ENABLE, vringState(0, 0));
    const early = first.read(SECTOR, SECTOR);
    expect((await second.read(0, SECTOR)).status).toBe(BLK_S.OK);
    expect(first.queue.usedIndex).toBe(0);
    await frontend.acknowledged(REQUEST.SET_VRING_ENABLE, vringState(0, 1));
    expect((await early).in).toEqual(numbered(2 * SECTOR).subarray(SECTOR));
  });

  it('has a power of two for its size, and 16 bits for its begin', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, queue } = await beforeRings(socket);
    for (const size of [0, 3, 100, 32_769, 65_535, 65_536, 0xffff_ffff]) {
      const state = vringState(0, size);
      expect(await frontend.acknowledged(REQUEST.SET_VRING_NUM, state)).toBe(1n);
    }
    for (const base of [0x1_0000, 0xffff_ffff]) {
      const state = vringState(0, base);
      expect(await frontend.acknowledged(REQUEST.SET_VRING_BASE, state)).toBe(1n);
    }
    for (const size of [1, 32_768]) {
      const state = vringState(0, size);
      expect(await frontend.acknowledged(REQUEST.SET_VRING_NUM, state)).toBe(0n);
    }
    const disk = await startQueue(frontend, queue);
    expect((await disk.read(0, SECTOR)).status).toBe(BLK_S.OK);
  });
});

describe('an area for requests under way', () => {
  it.each([
    { name: 'that is too short', size: AREA - 1, length: 4096, sealed: true },
    { name: 'that goes beyond its file', size: AREA, length: AREA - 1, sealed: true },
    { name: 'in a file that can shrink', size: AREA, length: 4096, sealed: false },
  ])('$name is refused', async ({ size, length, sealed }) => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, queue } = await beforeRings(socket);
    const fd = testMemfd(length, { sealed });
    const area = inflightArea(size);
    expect(await frontend.acknowledged(REQUEST.SET_INFLIGHT_FD, area, [fd])).toBe(1n);
    const disk = await startQueue(frontend, queue);
    expect((await disk.read(0, SECTOR)).status).toBe(BLK_S.OK);
  });

  it('of fewer entries than the ring has ends the session', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, queue } = await beforeRings(socket);
    const area = inflightArea(AREA, QUEUE_SIZE / 2);
    const fd = testMemfd(4096, { sealed: true });
    expect(await frontend.acknowledged(REQUEST.SET_INFLIGHT_FD, area, [fd])).toBe(0n);
    await expect(startQueue(frontend, queue)).rejects.toThrow('hung up');
  });

  it('that notes what the ring does not have ends the session', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, queue } = await beforeRings(socket);
    const answer = await frontend.ask(REQUEST.GET_INFLIGHT_FD, inflightArea(0, 2 * QUEUE_SIZE));
    const [fd] = answer.descriptors;
    if (fd === undefined) throw new Error('no inflight area');
    onTestFinished(() => close(fd));
    const area = mapShared(fd, 0, Number(answer.payload.readBigUInt64LE()));
    onTestFinished(() => area.unmap());
    // The version, and an entry that is taken.
    area.bytes.writeUInt16LE(1, 8);
    area.bytes.writeUInt8(1, 16 + 16 * QUEUE_SIZE);
    await expect(startQueue(frontend, queue)).rejects.toThrow('hung up');
  });
});
