// Frontends that come, pause and go, and exports that do.

import { describe, expect, it, onTestFinished } from 'vitest';
import { close } from '../../../src/sys/socket.ts';
import { openDescriptors } from '../../helpers/descriptors.ts';
import { negotiate, shareMemory } from './bring-up.ts';
import {
  connectFrontend,
  startDevice,
  startQueue,
  type TestDevice,
  testCounter,
} from './device.ts';
import { served } from './health.ts';
import { memoryTable, REQUEST, singleRegion, u64, vringState } from './messages.ts';
import { numbered, ourSide, serveDisk, sides } from './serve.ts';
import { createMemfd } from './shared-descriptors.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';
import { Virtqueue } from './virtqueue.ts';

const { OK } = BLK_S;
const KIB = 1024;
const MIB = 1024 * KIB;
const LOG_LENGTH = 64 * KIB;
const none = Buffer.alloc(0);

/** Stops a ring, as a guest's reset does: the index of the next request. */
async function stopRing({ frontend }: TestDevice, index = 0): Promise<number> {
  const { payload } = await frontend.ask(REQUEST.GET_VRING_BASE, vringState(index, 0));
  expect(payload.readUInt32LE(0)).toBe(index);
  return payload.readUInt32LE(4);
}

describe.each(sides)('the life of vhost-user-blk: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('a ring that stops says how far it got, and goes on from there', async () => {
    const { socket } = await serveDisk(side);
    const device = await startDevice(socket);
    for (let each = 0; each < 5; each++)
      expect((await device.disk.read(0, SECTOR)).status).toBe(OK);
    expect(await stopRing(device)).toBe(5);
    // Its counters are gone with it; what is made available now is found when it starts again.
    const { frontend, memory } = device;
    const queue = new Virtqueue(memory, { index: 0, indirect: true, eventIndex: true });
    queue.startAt(5);
    const disk = await startQueue(frontend, queue);
    expect((await disk.read(SECTOR, SECTOR)).in.equals(numbered(2 * SECTOR).subarray(SECTOR))).toBe(
      true,
    );
    expect(await stopRing(device)).toBe(6);
  });

  test('a stopped ring answers nothing, and the other one goes on', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=on,num-queues=2' });
    const device = await startDevice(socket, { queues: 2 });
    const [first, second] = device.disks;
    expect(await stopRing(device, 0)).toBe(0);
    void first?.read(0, SECTOR);
    expect((await second?.read(0, SECTOR))?.status).toBe(OK);
    expect(first?.inFlight).toBe(1);
  });

  test('a device can be reset and set up anew in one connection', async () => {
    const { socket } = await serveDisk(side);
    const device = await startDevice(socket);
    expect((await device.disk.write(0, Buffer.alloc(SECTOR, 7))).status).toBe(OK);
    await stopRing(device);
    const { frontend, memory } = device;
    await negotiate(frontend);
    const queue = new Virtqueue(memory, { indirect: true, eventIndex: true, size: 16 });
    const disk = await startQueue(frontend, queue);
    expect((await disk.read(0, SECTOR)).in.equals(Buffer.alloc(SECTOR, 7))).toBe(true);
  });

  test('memory can come and go while rings are stopped', async () => {
    const { socket } = await serveDisk(side);
    const device = await startDevice(socket, { table: true });
    expect((await device.disk.read(0, SECTOR)).status).toBe(OK);
    await stopRing(device);
    const { frontend, memory } = device;
    await shareMemory(frontend, memory, true);
    const queue = new Virtqueue(memory, { indirect: true, eventIndex: true });
    const disk = await startQueue(frontend, queue);
    expect((await disk.read(0, SECTOR)).in.equals(numbered(SECTOR))).toBe(true);
  });

  test('frontends come one after the other, as often as they like', async () => {
    const disk = await serveDisk(side);
    let descriptors: number | undefined;
    for (let round = 0; round < 12; round++) {
      const device = await startDevice(disk.socket);
      const bytes = Buffer.alloc(SECTOR, round);
      expect((await device.disk.write(round * SECTOR, bytes)).status).toBe(OK);
      const open = openDescriptors(disk.daemon.pid);
      descriptors ??= open;
      expect(open).toBe(descriptors);
      device.close();
    }
    const last = await startDevice(disk.socket);
    const { in: bytes } = await last.disk.read(0, 12 * SECTOR);
    expect(bytes.every((byte, at) => byte === Math.floor(at / SECTOR))).toBe(true);
  });

  test('a second frontend waits until the first one has left', async () => {
    const { socket, daemon } = await serveDisk(side);
    const first = await startDevice(socket);
    const second = await connectFrontend(socket);
    let answered = false;
    const features = second.askNumber(REQUEST.GET_FEATURES).then(() => {
      answered = true;
    });
    // In these turns it would have its answer.
    for (let turn = 0; turn < 20; turn++) await daemon.qmp.execute('query-block-exports');
    expect((await first.disk.read(0, SECTOR)).status).toBe(OK);
    expect(answered).toBe(false);
    first.close();
    await features;
    expect(answered).toBe(true);
  });

  test('an export that is deleted takes its frontend with it', async () => {
    const { daemon, socket, image } = await serveDisk(side);
    const device = await startDevice(socket);
    expect((await device.disk.write(0, Buffer.alloc(SECTOR, 9))).status).toBe(OK);
    const deleted = daemon.qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    await daemon.qmp.execute('block-export-del', { id: 'disk', mode: 'hard' });
    await device.frontend.ended;
    expect(await deleted).toEqual({ id: 'disk' });
    expect(await daemon.qmp.execute('query-block-exports')).toEqual([]);
    await expect(connectFrontend(socket)).rejects.toThrow(/connect/);
    await daemon.qmp.execute('blockdev-del', { 'node-name': 'node' });
    expect(image().subarray(0, SECTOR).equals(Buffer.alloc(SECTOR, 9))).toBe(true);
  });

  test('an export can be deleted with requests under way, and had again', async () => {
    const { daemon, socket } = await serveDisk(side);
    const device = await startDevice(socket);
    for (let each = 0; each < 40; each++)
      void device.disk.write(each * 16 * KIB, Buffer.alloc(16 * KIB));
    const deleted = daemon.qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    await daemon.qmp.execute('block-export-del', { id: 'disk', mode: 'hard' });
    await deleted;
    await daemon.qmp.execute('block-export-add', {
      type: 'vhost-user-blk',
      id: 'disk',
      'node-name': 'node',
      writable: true,
      addr: { type: 'unix', path: 'disk.sock' },
    });
    const next = await startDevice(socket);
    expect((await next.disk.read(0, MIB)).status).toBe(OK);
  });
});

describe('a frontend that hands over everything twice', () => {
  it('leaves nothing of it behind', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    const { frontend, memory, close: leave } = await startDevice(disk.socket);
    const log = createMemfd(LOG_LENGTH, { sealed: true });
    onTestFinished(() => close(log));
    const part = Buffer.alloc(16);
    part.writeBigUInt64LE(BigInt(LOG_LENGTH));
    const area = Buffer.alloc(24);
    area.writeUInt16LE(1, 16);
    area.writeUInt16LE(128, 18);
    const { fd } = testCounter();
    const { main } = memory;
    const region = singleRegion({ ...main, guestAddress: 0, userAddress: 0 });
    const handedOver = [
      [REQUEST.SET_LOG_BASE, part, log],
      [REQUEST.SET_LOG_FD, none, fd],
      [REQUEST.SET_BACKEND_REQ_FD, none, fd],
      [REQUEST.SET_VRING_ERR, u64(0), fd],
      [REQUEST.SET_VRING_CALL, u64(0), fd],
      [REQUEST.SET_VRING_KICK, u64(0), fd],
      [REQUEST.SET_MEM_TABLE, memoryTable([main]), main.fd],
      [REQUEST.ADD_MEM_REG, region, main.fd],
      // As frontends of old do: the file comes once more.
      [REQUEST.REM_MEM_REG, region, main.fd],
    ] as const;
    for (let times = 0; times < 2; times++) {
      for (const [request, payload, descriptor] of handedOver) {
        expect(await frontend.acknowledged(request, payload, [descriptor])).toBe(0n);
      }
    }
    await frontend.ask(REQUEST.GET_VRING_BASE, vringState(0, 0));
    for (let times = 0; times < 2; times++) {
      const { descriptors } = await frontend.ask(REQUEST.GET_INFLIGHT_FD, area);
      for (const each of descriptors) close(each);
    }
    leave();
    expect(await served(disk)).toEqual(held);
  });
});
