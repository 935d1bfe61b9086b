// Memory that the frontend has promised and takes away, or fails to. Ours only: the reference dies of it (SIGBUS).

import { describe, expect, it } from 'vitest';
import { FEATURE } from './bring-up.ts';
import { startDevice } from './device.ts';
import { memoryTable, REQUEST, singleRegion, vringAddress } from './messages.ts';
import { numbered, ourSide, serveDisk, sides } from './serve.ts';
import { truncate } from './shared-descriptors.ts';
import { BLK_S, BLK_T, UNTOUCHED } from './virtio-blk.ts';

const MIB = 1024 * 1024;

describe.each(sides)('memory that can shrink, but does not: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test.each([
    { how: 'with the event index and tables', without: 0n },
    { how: 'with neither', without: FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC },
  ])('serves requests $how', async ({ without }) => {
    const { socket, image } = await serveDisk(side);
    const { disk } = await startDevice(socket, { without, memory: { sealed: false } });
    const written = Buffer.alloc(20 * 1024, 0x5a);
    expect((await disk.write(8192, written)).status).toBe(BLK_S.OK);
    expect((await disk.flush()).status).toBe(BLK_S.OK);
    expect(image().subarray(8192, 8192 + written.length)).toEqual(written);
    const read = await disk.submit({
      type: BLK_T.IN,
      sector: 8,
      inLength: 65536,
      pieces: [1, 511],
    });
    expect(read.in).toEqual(image().subarray(4096, 4096 + 65536));
  });
});

describe('memory that is not changed', () => {
  it('is there for the rings as before, when the frontend hears of the refusal', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, disk, memory } = await startDevice(socket);
    const { main } = memory;
    const nowhere = { descriptors: 4096, used: 8192, available: 12288 };
    for (const [request, payload, descriptors] of [
      [REQUEST.REM_MEM_REG, singleRegion({ ...main, guestAddress: 0 }), []],
      [REQUEST.ADD_MEM_REG, singleRegion(main), [main.fd]],
      [REQUEST.SET_MEM_TABLE, memoryTable([main, main]), [main.fd, main.fd]],
      [REQUEST.SET_VRING_ADDR, vringAddress(0, nowhere), []],
    ] as const) {
      expect(await frontend.acknowledged(request, payload, descriptors)).toBe(1n);
      expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
    }
  });
});

describe('memory that begins one byte behind a page', () => {
  it('has no place for a ring', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend, memory } = await startDevice(socket);
    const { main } = memory;
    const odd = { ...main, guestAddress: 0, userAddress: 4096, length: MIB, offset: 1 };
    expect(await frontend.acknowledged(REQUEST.ADD_MEM_REG, singleRegion(odd), [main.fd])).toBe(0n);
    const ring = { descriptors: 4096, used: 8192, available: 12288 };
    expect(await frontend.acknowledged(REQUEST.SET_VRING_ADDR, vringAddress(0, ring))).toBe(1n);
  });
});

describe('memory that shrinks', () => {
  it('costs a request whose data are there, and not the session', async () => {
    const { socket } = await serveDisk(ourSide);
    const { disk, memory, frontend } = await startDevice(socket, {
      memory: { sealed: false, lengths: [16 * MIB, 4 * MIB] },
    });
    const [, second] = memory.regions;
    if (second === undefined) throw new Error('there are two regions');
    truncate(second.fd, 0);
    for (const type of [BLK_T.IN, BLK_T.OUT]) {
      const header = memory.allocate(17);
      memory.bytes.fill(0, header, header + 16);
      memory.view.setUint32(header, type, true);
      const status = header + 16;
      memory.bytes[status] = UNTOUCHED;
      const used = disk.queue.usedIndex;
      disk.queue.add([
        { address: memory.guestAddress(header), length: 16, writable: false },
        { address: second.guestAddress, length: 4096, writable: type === BLK_T.IN },
        { address: memory.guestAddress(status), length: 1, writable: true },
      ]);
      disk.kick.signal();
      await expect.poll(() => disk.queue.usedIndex).toBe(used + 1);
      expect(memory.bytes[status]).toBe(BLK_S.IOERR);
      disk.queue.reap(() => {});
    }
    expect((await disk.read(0, 512)).in).toEqual(numbered(512));
    frontend.close();
  });

  it('ends the session when the ring is there', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { disk, memory, frontend } = await startDevice(socket, { memory: { sealed: false } });
    expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
    truncate(memory.main.fd, 0);
    disk.kick.signal();
    await frontend.ended;
    expect((await (await startDevice(socket)).disk.read(0, 512)).in).toEqual(numbered(512));
    expect(daemon.child.exitCode).toBeNull();
  });

  it('is refused when it is too short from the start, and the rest goes on', async () => {
    const { socket } = await serveDisk(ourSide);
    const { disk, frontend, memory } = await startDevice(socket);
    expect((await disk.read(0, 512)).in).toEqual(numbered(512));
    const { fd } = memory.main;
    const region = { ...memory.main, guestAddress: 0, offset: 16 * MIB };
    expect(await frontend.acknowledged(REQUEST.ADD_MEM_REG, singleRegion(region), [fd])).toBe(1n);
    expect((await disk.read(512, 512)).in).toEqual(numbered(1024).subarray(512));
  });
});
