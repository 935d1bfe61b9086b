// Event counters belong to the frontend as much as to the device: it can make them wait, fill them, empty them first, or hand over
// something else. Nothing of that may hold the daemon. Only ours: the reference waits.

import { describe, expect, it } from 'vitest';
import { setStatusFlags, statusFlags } from '../../../src/sys/descriptor.ts';
import { O_NONBLOCK, O_RDWR, openFile } from '../../../src/sys/file.ts';
import { addressOf, libc } from '../../../src/sys/libc.ts';
import { close } from '../../../src/sys/socket.ts';
import { startDevice, testCounter } from './device.ts';
import { served } from './health.ts';
import { REQUEST, u64 } from './messages.ts';
import { numbered, ourSide, serveDisk } from './serve.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';

const MOST = Buffer.alloc(128);
MOST.writeBigUInt64LE(0xffff_ffff_ffff_fffen);

/** A counter that has no room and whose writers wait for some. */
function fullCounter(): number {
  const { fd } = testCounter();
  expect(libc.write(fd, addressOf(MOST), 8)).toBe(8);
  makeWaiting(fd);
  return fd;
}

/** For whoever holds it. */
function makeWaiting(fd: number): void {
  setStatusFlags(fd, statusFlags(fd) & ~O_NONBLOCK);
}

describe('a frontend whose counters would wait', () => {
  it('finds its requests done, though there is no way to call it', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { frontend, disk } = await startDevice(socket);
    const full = fullCounter();
    // It is signalled as soon as it is there, and becomes one that does not wait: not for long.
    await frontend.acknowledged(REQUEST.SET_VRING_CALL, u64(0), [full]);
    makeWaiting(full);
    const reads = [0, 1, 2, 3].map((sector) => disk.read(sector * SECTOR, SECTOR));
    await expect.poll(() => disk.queue.usedIndex).toBe(4);
    expect(await daemon.qmp.execute('query-block-exports')).toHaveLength(1);
    await frontend.acknowledged(REQUEST.SET_VRING_CALL, u64(0), [disk.call.fd]);
    const bytes = (await Promise.all(reads)).map((read) => read.in);
    expect(Buffer.concat(bytes).equals(numbered(4 * SECTOR))).toBe(true);
  });

  it('cannot hold the daemon when it breaks a rule', async () => {
    const disk = await serveDisk(ourSide);
    const { frontend, disk: queue } = await startDevice(disk.socket);
    const full = fullCounter();
    await frontend.acknowledged(REQUEST.SET_VRING_ERR, u64(0), [full]);
    makeWaiting(full);
    queue.queue.setAvailableIndex(queue.queue.size + 1);
    queue.kick.signal();
    await frontend.ended;
    await served(disk);
  });

  it('is served when its kicks are ones to wait for', async () => {
    const { socket } = await serveDisk(ourSide);
    const { disk } = await startDevice(socket);
    makeWaiting(disk.kick.fd);
    for (let times = 0; times < 100; times++) {
      const read = disk.read(0, SECTOR);
      // Two kicks, or one that has been taken already when the second wakes the daemon.
      disk.kick.signal();
      expect((await read).status).toBe(BLK_S.OK);
    }
  });

  it('is refused with a terminal in the place of a counter', async () => {
    const disk = await serveDisk(ourSide);
    const { frontend, disk: queue, close: leave } = await startDevice(disk.socket);
    const terminal = openFile('/dev/ptmx', O_RDWR);
    const { SET_VRING_CALL, SET_VRING_KICK } = REQUEST;
    try {
      expect(await frontend.acknowledged(SET_VRING_CALL, u64(0), [terminal])).toBe(1n);
      await frontend.acknowledged(SET_VRING_CALL, u64(0), [queue.call.fd]);
      expect(await frontend.acknowledged(SET_VRING_KICK, u64(0), [terminal])).toBe(1n);
      await frontend.acknowledged(SET_VRING_KICK, u64(0), [queue.kick.fd]);
      expect((await queue.read(0, SECTOR)).status).toBe(BLK_S.OK);
    } finally {
      close(terminal);
    }
    leave();
    await served(disk);
  });
});
