// Logging of writes to guest memory, as a guest that moves to another machine needs it.

import { describe, expect, it, onTestFinished } from 'vitest';
import { close } from '../../../src/sys/socket.ts';
import { memfdMappings } from '../../helpers/descriptors.ts';
import { startDevice, testCounter } from './device.ts';
import { GUEST_BASE, type GuestMemory } from './guest-memory.ts';
import {
  PROTOCOL_F,
  REQUEST,
  u64,
  VHOST_USER_F_PROTOCOL_FEATURES,
  vringAddress,
} from './messages.ts';
import { numbered, ourSide, serveDisk, sides } from './serve.ts';
import { createMemfd, mapShared } from './shared-descriptors.ts';
import { BLK_S } from './virtio-blk.ts';
import type { Virtqueue } from './virtqueue.ts';

const LOG_ALL = 1n << 26n;
const PAGE = 4096;
const LOG_LENGTH = 64 * 1024;
const RING_IS_LOGGED = 1;

function logBase(size: number): Buffer {
  const payload = Buffer.alloc(16);
  payload.writeBigUInt64LE(BigInt(size), 0);
  return payload;
}

function logMemory(options: { readonly sealed: boolean }): { fd: number; bytes: Buffer } {
  const fd = createMemfd(LOG_LENGTH, options);
  const shared = mapShared(fd, 0, LOG_LENGTH);
  onTestFinished(() => {
    shared.unmap();
    close(fd);
  });
  return { fd, bytes: shared.bytes };
}

/** SET_VRING_ADDR of a ring whose used part is to be logged. */
function loggedRing(memory: GuestMemory, queue: Virtqueue): Buffer {
  const ring = {
    descriptors: memory.userAddress(queue.descriptors),
    used: memory.userAddress(queue.used),
    available: memory.userAddress(queue.available),
  };
  const address = vringAddress(0, ring, RING_IS_LOGGED);
  address.writeBigUInt64LE(BigInt(memory.guestAddress(queue.used)), 32);
  return address;
}

/** The pages that are marked, as offsets in the guest's memory. */
function marked(log: Buffer): number[] {
  const pages: number[] = [];
  for (let page = 0; page < log.length * 8; page++) {
    if (((log[page >> 3] ?? 0) >> (page & 7)) & 1) pages.push(page * PAGE - GUEST_BASE);
  }
  return pages;
}

const pageOf = (at: number): number => at - (at % PAGE);

describe.each(sides)('dirty logging: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('marks what requests write and the used ring, once it is asked for', async () => {
    const { socket } = await serveDisk(side);
    const { frontend, disk, memory, features, protocolFeatures } = await startDevice(socket);
    expect(features & LOG_ALL).toBe(LOG_ALL);
    frontend.send(REQUEST.SET_PROTOCOL_FEATURES, u64(protocolFeatures | PROTOCOL_F.LOG_SHMFD));
    const log = logMemory({ sealed: true });
    const { queue } = disk;
    await frontend.ask(REQUEST.SET_LOG_BASE, logBase(LOG_LENGTH), { descriptors: [log.fd] });
    const quiet = features & ~LOG_ALL & ~VHOST_USER_F_PROTOCOL_FEATURES;
    frontend.send(REQUEST.SET_FEATURES, u64(quiet));
    await frontend.acknowledged(REQUEST.SET_VRING_ADDR, loggedRing(memory, queue));
    expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
    expect(marked(log.bytes)).toEqual([]);

    const logged = testCounter();
    frontend.send(REQUEST.SET_LOG_FD, Buffer.alloc(0), { descriptors: [logged.fd] });
    await frontend.acknowledged(REQUEST.SET_FEATURES, u64(quiet | LOG_ALL));
    expect((await disk.read(0, 16 * PAGE)).status).toBe(BLK_S.OK);
    const data = memory.bytes.indexOf(numbered(16 * PAGE).subarray(0, 512), 0);
    const expected = new Set([pageOf(queue.used)]);
    for (let at = pageOf(data); at <= data + 16 * PAGE; at += PAGE) expected.add(at);
    const pages = marked(log.bytes);
    expect([...expected].filter((page) => !pages.includes(page))).toEqual([]);
    expect(pages.length).toBeLessThan(expected.size + 4);
    expect(logged.take()).toBe(true);
  });
});

describe('dirty logging', () => {
  it('marks the used ring for a wish about kicks, too', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, disk, memory, features } = await startDevice(socket);
    const log = logMemory({ sealed: true });
    const { queue } = disk;
    await frontend.ask(REQUEST.SET_LOG_BASE, logBase(LOG_LENGTH), { descriptors: [log.fd] });
    await frontend.acknowledged(REQUEST.SET_VRING_ADDR, loggedRing(memory, queue));
    await frontend.acknowledged(REQUEST.SET_FEATURES, u64(features));
    disk.kick.signal();
    await expect.poll(() => marked(log.bytes)).toContain(pageOf(queue.used));
  });

  it('is refused where bits could get lost or the program with them', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { frontend } = await startDevice(socket);
    const log = logMemory({ sealed: false });
    const payload = logBase(LOG_LENGTH);
    const mappings = memfdMappings(daemon.pid);
    expect(await frontend.acknowledged(REQUEST.SET_LOG_BASE, payload, [log.fd])).toBe(1n);
    expect(memfdMappings(daemon.pid)).toBe(mappings);
  });

  it.each([2 ** 32 + PAGE, 2 ** 36, 2 ** 53])('is refused in a log of %d bytes', async (size) => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, disk } = await startDevice(socket);
    const fd = createMemfd(2 ** 36, { sealed: true });
    onTestFinished(() => close(fd));
    expect(await frontend.acknowledged(REQUEST.SET_LOG_BASE, logBase(size), [fd])).toBe(1n);
    expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
  });

  it('ends the session when the log is too short', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { frontend, disk, features } = await startDevice(socket);
    const log = logMemory({ sealed: true });
    await frontend.ask(REQUEST.SET_LOG_BASE, logBase(PAGE), { descriptors: [log.fd] });
    await frontend.acknowledged(REQUEST.SET_FEATURES, u64(features));
    void disk.read(0, 512);
    await frontend.ended;
    expect(marked(log.bytes)).toEqual([]);
    expect(daemon.child.exitCode).toBeNull();
  });
});
