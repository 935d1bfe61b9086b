// One case for each rule of the split virtqueue (virtio 1.x, 2.7) and of the block device's requests (5.2.6) that a driver can
// break. The session ends, the frontend is told by the ring's error counter, and the next one is served as ever. Only ours: the
// reference dies of some of these.

import { describe, expect, it } from 'vitest';
import { FEATURE, readConfig } from './bring-up.ts';
import { type DeviceOptions, startDevice, type TestDevice, testCounter } from './device.ts';
import { GUEST_BASE } from './guest-memory.ts';
import { served } from './health.ts';
import { REQUEST, u64 } from './messages.ts';
import { ourSide, type ServedDisk, serveDisk } from './serve.ts';
import { truncate } from './shared-descriptors.ts';
import { BLK_S, BLK_T, SECTOR, UNTOUCHED } from './virtio-blk.ts';
import { DESCRIPTOR_F, DESCRIPTOR_LENGTH, type Piece, type Virtqueue } from './virtqueue.ts';

const { NEXT, WRITE, INDIRECT } = DESCRIPTOR_F;

interface RingCase {
  readonly name: string;
  readonly options?: DeviceOptions;
  /** Puts it where the device will find it. */
  readonly offer: (parts: Parts) => void;
}

interface Parts {
  readonly device: TestDevice;
  readonly queue: Virtqueue;
  /** Guest addresses of a good request's parts: header (to read the first sector), data, status. */
  readonly header: number;
  readonly data: number;
  readonly status: number;
  /** A table for indirect descriptors: its offset in memory and its guest address. */
  readonly table: number;
  readonly tableAddress: number;
}

const rings: readonly RingCase[] = [
  {
    name: 'a head that is no descriptor of the ring',
    offer: ({ queue }) => queue.makeAvailable(queue.size),
  },
  {
    name: 'an available index that is further ahead than the ring is long',
    offer: ({ queue }) => queue.setAvailableIndex(queue.size + 1),
  },
  {
    name: 'an available index that went back',
    offer: ({ queue }) => queue.setAvailableIndex(0xffff),
  },
  {
    name: 'a descriptor that is its own next one',
    offer({ queue, header }) {
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 0 });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'a chain with a loop',
    offer({ queue, header, data }) {
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 1 });
      queue.setDescriptor(1, { address: data, length: 512, flags: NEXT | WRITE, next: 2 });
      queue.setDescriptor(2, { address: data, length: 512, flags: NEXT | WRITE, next: 1 });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'a chain that is longer than any may be',
    options: { queueSize: 2048 },
    offer({ queue, header }) {
      for (let each = 0; each < 1025; each++) {
        const flags = each < 1024 ? NEXT : 0;
        queue.setDescriptor(each, { address: header, length: 16, flags, next: each + 1 });
      }
      queue.makeAvailable(0);
    },
  },
  {
    name: 'a next descriptor that the ring does not have',
    offer({ queue, header }) {
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: queue.size });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'a readable descriptor behind a writable one',
    offer({ queue, header, status }) {
      queue.setDescriptor(0, { address: status, length: 1, flags: NEXT | WRITE, next: 1 });
      queue.setDescriptor(1, { address: header, length: 16 });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'a descriptor of no bytes',
    offer({ queue, header, data, status }) {
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 1 });
      queue.setDescriptor(1, { address: data, length: 0, flags: NEXT | WRITE, next: 2 });
      queue.setDescriptor(2, { address: status, length: 1, flags: WRITE });
      queue.makeAvailable(0);
    },
  },
  ...[
    { name: 'at 0', address: 0n, length: 16 },
    { name: 'right before the memory', address: BigInt(GUEST_BASE - 16), length: 16 },
    { name: 'that ends behind the memory', address: BigInt(GUEST_BASE) + 0xfffff8n, length: 16 },
    { name: 'that is as long as can be', address: BigInt(GUEST_BASE), length: 0xffffffff },
    { name: 'that ends where addresses do', address: 2n ** 64n - 16n, length: 16 },
    { name: 'that goes on behind the last address', address: 2n ** 64n - 8n, length: 16 },
    { name: 'at an address beyond 53 bits', address: 2n ** 60n + BigInt(GUEST_BASE), length: 16 },
  ].map(({ name, address, length }) => ({
    name: `a buffer ${name}`,
    offer({ queue, status }: Parts) {
      queue.setDescriptor(0, { address, length, flags: NEXT, next: 1 });
      queue.setDescriptor(1, { address: status, length: 1, flags: WRITE });
      queue.makeAvailable(0);
    },
  })),
  ...[
    { name: 'of no bytes', length: 0 },
    { name: 'that ends within a descriptor', length: 2 * DESCRIPTOR_LENGTH - 1 },
    { name: 'of more entries than any queue has', length: 2 ** 16 * DESCRIPTOR_LENGTH },
    { name: 'as long as can be', length: 0xfffffff0 },
  ].map(({ name, length }) => ({
    name: `an indirect table ${name}`,
    offer({ queue, tableAddress }: Parts) {
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  })),
  {
    name: 'an indirect table outside of the memory',
    offer({ queue }) {
      queue.setDescriptor(0, { address: 16, length: 3 * DESCRIPTOR_LENGTH, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table that ends outside of the memory',
    offer({ queue, device }) {
      const address = device.memory.guestAddress(device.memory.main.length - DESCRIPTOR_LENGTH);
      queue.setDescriptor(0, { address, length: 3 * DESCRIPTOR_LENGTH, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table in an indirect table',
    offer({ queue, table, tableAddress }) {
      const length = DESCRIPTOR_LENGTH;
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT }, table);
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table with something behind it',
    offer(parts) {
      const { queue, tableAddress, status } = parts;
      fillTable(parts);
      const length = 3 * DESCRIPTOR_LENGTH;
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT | NEXT, next: 1 });
      queue.setDescriptor(1, { address: status, length: 1, flags: WRITE });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table with a loop',
    offer(parts) {
      const { queue, table, tableAddress, header } = parts;
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 0 }, table);
      const length = 3 * DESCRIPTOR_LENGTH;
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table that leads out of itself',
    offer(parts) {
      const { queue, table, tableAddress, header } = parts;
      queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 3 }, table);
      const length = 3 * DESCRIPTOR_LENGTH;
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
  {
    name: 'an indirect table that was not agreed on',
    options: { without: FEATURE.INDIRECT_DESC },
    offer(parts) {
      const { queue, tableAddress } = parts;
      fillTable(parts);
      const length = 3 * DESCRIPTOR_LENGTH;
      queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
      queue.makeAvailable(0);
    },
  },
];

/** A good request in the table. */
function fillTable({ queue, table, header, data, status }: Parts): void {
  queue.setDescriptor(0, { address: header, length: 16, flags: NEXT, next: 1 }, table);
  queue.setDescriptor(1, { address: data, length: SECTOR, flags: NEXT | WRITE, next: 2 }, table);
  queue.setDescriptor(2, { address: status, length: 1, flags: WRITE }, table);
}

async function victim(served: Pick<ServedDisk, 'socket'>, options?: DeviceOptions): Promise<Parts> {
  const device = await startDevice(served.socket, options);
  const { memory } = device;
  const header = memory.allocate(16);
  const data = memory.allocate(4096);
  const status = memory.allocate(1);
  const table = memory.allocate(16 * DESCRIPTOR_LENGTH);
  return {
    device,
    queue: device.disk.queue,
    header: memory.guestAddress(header),
    data: memory.guestAddress(data),
    status: memory.guestAddress(status),
    table,
    tableAddress: memory.guestAddress(table),
  };
}

async function check(disk: ServedDisk, cases: readonly RingCase[]): Promise<void> {
  const held = await served(disk);
  for (const { name, options, offer } of cases) {
    const parts = await victim(disk, options);
    const { device } = parts;
    const error = testCounter();
    device.frontend.send(REQUEST.SET_VRING_ERR, u64(0), { descriptors: [error.fd] });
    await readConfig(device.frontend);
    offer(parts);
    device.disk.kick.signal();
    await device.frontend.ended;
    expect({ name, told: error.take(), held: await served(disk) }).toEqual({
      name,
      told: true,
      held,
    });
    device.close();
  }
}

describe('a driver that breaks a rule', () => {
  it('of the virtqueue ends its session, and nothing else', async () => {
    await check(await serveDisk(ourSide), rings);
  });

  it('of the virtqueue does so in memory that may shrink, too', async () => {
    const memory = { sealed: false };
    await check(
      await serveDisk(ourSide),
      rings.map((each) => ({ ...each, options: { ...each.options, memory } })),
    );
  });

  it('of the requests gets them back with nothing written', async () => {
    const { socket } = await serveDisk(ourSide);
    const { device, header, data, status } = await victim({ socket });
    const { disk, memory } = device;
    const statusAt = status - GUEST_BASE;
    memory.bytes[statusAt] = UNTOUCHED;
    const [readable, writable] = [false, true];
    const requests: Record<string, Piece[]> = {
      'nothing to read': [{ address: status, length: 1, writable }],
      'no status': [{ address: header, length: 16, writable: readable }],
      'no status behind data': [{ address: data, length: SECTOR + 16, writable: readable }],
      'a header that is too short': [
        { address: header, length: 15, writable: readable },
        { address: status, length: 1, writable },
      ],
      'a header that is too short, in pieces': [
        { address: header, length: 8, writable: readable },
        { address: header + 8, length: 7, writable: readable },
        { address: status, length: 1, writable },
      ],
    };
    for (const [name, pieces] of Object.entries(requests)) {
      const written = await disk.submitPieces(pieces);
      expect({ name, written, status: memory.bytes[statusAt] }).toEqual({
        name,
        written: 0,
        status: UNTOUCHED,
      });
    }
    expect((await disk.read(0, SECTOR)).status).toBe(BLK_S.OK);
  });

  it('of none, but has its disk read over the ring itself, harms nobody else', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    for (const sealed of [true, false]) {
      for (const place of ['descriptors', 'available', 'used', 'table'] as const) {
        const parts = await victim(disk, { memory: { sealed } });
        const { device, queue, tableAddress, status } = parts;
        const over = place === 'table' ? parts.table : queue[place];
        fillTable({ ...parts, data: device.memory.guestAddress(over) });
        const length = 3 * DESCRIPTOR_LENGTH;
        queue.setDescriptor(0, { address: tableAddress, length, flags: INDIRECT });
        const statusAt = status - GUEST_BASE;
        device.memory.bytes[statusAt] = UNTOUCHED;
        // Nobody can say what is given back by a ring that was overwritten.
        queue.reap = () => 0;
        queue.makeAvailable(0);
        device.disk.kick.signal();
        await expect.poll(() => device.memory.bytes[statusAt]).toBe(BLK_S.OK);
        device.close();
      }
    }
    expect(await served(disk)).toEqual(held);
  });

  it('and cuts its memory short, ends its session, and nothing else', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    for (const length of [0, 4096]) {
      const { device } = await victim(disk, { memory: { sealed: false } });
      // Nobody here may touch what is gone, either.
      device.disk.queue.reap = () => 0;
      truncate(device.memory.main.fd, length);
      device.disk.kick.signal();
      // What is gone may be the rings, or they may look empty: then the frontend is the one to leave.
      device.frontend.send(REQUEST.SET_FEATURES, Buffer.alloc(1));
      await device.frontend.ended;
      expect(await served(disk)).toEqual(held);
    }
  });

  it('and cuts short the memory of a buffer, is told by the status or the end', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    const { device, header, status } = await victim(disk, {
      memory: { sealed: false },
      without: FEATURE.INDIRECT_DESC,
    });
    const { memory } = device;
    const end = memory.main.length - 4096;
    truncate(memory.main.fd, end);
    const written = device.disk.submitPieces([
      { address: header, length: 16, writable: false },
      { address: memory.guestAddress(end), length: 4096, writable: true },
      { address: status, length: 1, writable: true },
    ]);
    const told = written.then(() => memory.bytes[status - GUEST_BASE]);
    expect(await Promise.race([device.frontend.ended, told])).not.toBe(BLK_S.OK);
    device.close();
    expect(await served(disk)).toEqual(held);
  });

  it('and leaves in the middle of everything, leaves nothing behind', async () => {
    const disk = await serveDisk(ourSide);
    const held = await served(disk);
    for (let round = 0; round < 10; round++) {
      const { disk: queue, close } = await startDevice(disk.socket);
      for (let each = 0; each < 60; each++) {
        const type = [BLK_T.IN, BLK_T.OUT, BLK_T.FLUSH][each % 3] ?? BLK_T.IN;
        const size = type === BLK_T.FLUSH ? 0 : 32 * 1024;
        void queue.submit(
          {
            type,
            sector: each * 32,
            ...(type === BLK_T.OUT ? { out: Buffer.alloc(size, each) } : { inLength: size }),
          },
          { kick: each % 7 === 0 },
        );
      }
      close();
    }
    expect(await served(disk)).toEqual(held);
  });
});
