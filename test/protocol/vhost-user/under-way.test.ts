// Requests that are not done yet when something happens to their ring, their memory, their daemon or their disk. A throttled
// disk keeps them for as long as the test wants.

import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { allocate } from '../../../src/sys/memory.ts';
import { READABLE } from '../../../src/sys/poller.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { residentKilobytes } from '../../helpers/resident-memory.ts';
import { FEATURE, negotiate, readConfig, shareMemory } from './bring-up.ts';
import {
  connectFrontend,
  guestMemory,
  startDevice,
  startQueue,
  type TestDevice,
} from './device.ts';
import type { Frontend } from './frontend.ts';
import { encode, PROTOCOL_F, REQUEST, singleRegion, u64, VERSION, vringState } from './messages.ts';
import { numbered, ourSide, type ServedDisk, serveDisk } from './serve.ts';
import { receiveWithDescriptors } from './shared-descriptors.ts';
import { BLK_S, BLK_T } from './virtio-blk.ts';
import { DESCRIPTOR_F, DESCRIPTOR_LENGTH, Virtqueue } from './virtqueue.ts';

const MIB = 1024 * 1024;
const QUEUE_SIZE = 64;
/** Requests of a MiB. */
const MUCH = 80;
/** Of one request. */
const MAX_BUFFERS = 1024;

/** Exports the disk once more, at one byte a second once the first request is through. */
async function throttled({
  daemon,
}: ServedDisk): Promise<{ socket: string; release: () => Promise<void> }> {
  const { qmp } = daemon;
  await qmp.execute('object-add', {
    'qom-type': 'throttle-group',
    id: 'g',
    limits: { 'bps-total': 1 },
  });
  await qmp.execute('blockdev-add', {
    driver: 'throttle',
    'node-name': 'slow',
    'throttle-group': 'g',
    file: 'node',
  });
  await qmp.execute('block-export-add', {
    type: 'vhost-user-blk',
    id: 'slow',
    'node-name': 'slow',
    addr: { type: 'unix', path: daemon.path('slow.sock') },
    writable: true,
  });
  return {
    socket: daemon.path('slow.sock'),
    release: async () => {
      await qmp.execute('qom-set', {
        path: '/objects/g',
        property: 'limits',
        value: { 'bps-total': 0 },
      });
    },
  };
}

/** Once the device has taken that many requests of the queue and waits for a kick. */
async function taken({ memory, availableEvent }: Virtqueue, count: number): Promise<void> {
  await expect.poll(() => memory.view.getUint16(availableEvent, true)).toBe(count);
}

/** Kicks once for requests of a MiB each, which are more than the daemon takes at a time. */
function offerMuch({ memory, disk }: TestDevice): void {
  const header = memory.allocate(16);
  memory.bytes.fill(0, header, header + 16);
  const data = memory.allocate(MIB + 1);
  for (let each = 0; each < MUCH; each++) {
    const pieces = [
      { address: memory.guestAddress(header), length: 16, writable: false },
      { address: memory.guestAddress(data), length: MIB + 1, writable: true },
    ];
    void disk.submitPieces(pieces, { kick: false });
  }
  disk.kick.signal();
}

/** As many requests as the ring has entries, all of them with as many buffers as one can have, most of them of one byte. */
function offerScattered(queue: Virtqueue): void {
  const { memory } = queue;
  const { NEXT, WRITE, INDIRECT } = DESCRIPTOR_F;
  const header = memory.allocate(16);
  memory.bytes.fill(0, header, header + 16);
  const data = memory.guestAddress(memory.allocate(2));
  const table = memory.allocate(MAX_BUFFERS * DESCRIPTOR_LENGTH);
  const chain = [
    { address: memory.guestAddress(header), length: 16, flags: NEXT },
    // Two sectors, in two buffers less.
    ...Array.from({ length: MAX_BUFFERS - 2 }, (_, each) => ({
      address: data,
      length: each < 2 ? 2 : 1,
      flags: NEXT | WRITE,
    })),
    { address: data, length: 1, flags: WRITE },
  ];
  for (const [at, each] of chain.entries()) {
    queue.setDescriptor(at, { ...each, next: at + 1 }, table);
  }
  const address = memory.guestAddress(table);
  const length = MAX_BUFFERS * DESCRIPTOR_LENGTH;
  // What comes back is not looked at.
  queue.reap = () => 0;
  for (let head = 1; head < queue.size; head++) {
    queue.setDescriptor(head, { address, length, flags: INDIRECT });
    queue.makeAvailable(head);
  }
}

function inflightPayload(size: number): Buffer {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(BigInt(size), 0);
  payload.writeUInt16LE(1, 16);
  payload.writeUInt16LE(QUEUE_SIZE, 18);
  return payload;
}

/** As negotiate(), with inflight tracking. */
async function negotiateInflight(frontend: Frontend): Promise<bigint> {
  const { features, protocolFeatures } = await negotiate(frontend);
  const wanted = protocolFeatures | PROTOCOL_F.INFLIGHT_SHMFD;
  frontend.send(REQUEST.SET_PROTOCOL_FEATURES, u64(wanted));
  return features;
}

describe('requests under way', () => {
  it('are done before a ring is said to have stopped', async () => {
    const disk = await serveDisk(ourSide);
    const { socket, release } = await throttled(disk);
    const device = await startDevice(socket);
    expect((await device.disk.read(0, 512)).status).toBe(BLK_S.OK);
    const waiting = device.disk.read(512, 512);
    await taken(device.disk.queue, 2);
    const base = device.frontend.ask(REQUEST.GET_VRING_BASE, vringState(0, 0));
    let stopped = false;
    void base.then(() => (stopped = true));
    await disk.daemon.qmp.execute('query-block-exports');
    expect(stopped).toBe(false);
    await release();
    expect((await base).payload.readUInt32LE(4)).toBe(2);
    expect((await waiting).in).toEqual(numbered(1024).subarray(512));
  });

  it.each([
    { name: 'flags', without: FEATURE.EVENT_IDX },
    { name: 'the event index', without: 0n },
  ])(
    'do not leave a ring that stops without kicks, which are asked for by $name',
    async ({ without }) => {
      const disk = await serveDisk(ourSide);
      const { socket, release } = await throttled(disk);
      const device = await startDevice(socket, { without });
      const { memory, disk: queue, frontend } = device;
      expect((await queue.read(0, 512)).status).toBe(BLK_S.OK);
      // So that the daemon does not get to where it wants to be kicked again.
      offerMuch(device);
      const flags = (): number => memory.view.getUint16(queue.queue.used, true);
      const event = (): number => memory.view.getUint16(queue.queue.availableEvent, true);
      // Whoever answers twice has heard of the kick.
      for (let each = 0; each < 2; each++) await disk.daemon.qmp.execute('query-block-exports');
      expect(event()).toBeLessThan(2);
      expect(flags()).toBe(without === 0n ? 0 : 1);
      const stopped = frontend.ask(REQUEST.GET_VRING_BASE, vringState(0, 0));
      await release();
      const base = (await stopped).payload.readUInt32LE(4);
      expect(base).toBeLessThan(1 + MUCH);
      if (without === 0n) expect(event()).toBe(base);
      else expect(flags()).toBe(0);
    },
  );

  it('make room for others, which nobody kicks for', async () => {
    const disk = await serveDisk(ourSide);
    const { socket, release } = await throttled(disk);
    const device = await startDevice(socket);
    expect((await device.disk.read(0, 512)).status).toBe(BLK_S.OK);
    offerMuch(device);
    // In these turns the daemon comes to as many as it takes.
    for (let turn = 0; turn < MUCH; turn++) await disk.daemon.qmp.execute('query-block-exports');
    await release();
    await device.disk.idle();
    expect(device.disk.queue.usedIndex).toBe(1 + MUCH);
  });

  it('are as many as our memory allows, whatever their buffers take to know', async () => {
    const disk = await serveDisk(ourSide);
    const { socket } = await throttled(disk);
    const { disk: blk, memory } = await startDevice(socket, {
      queueSize: 32_768,
      without: FEATURE.EVENT_IDX,
      memory: { lengths: [128 * MIB] },
    });
    const { queue, kick } = blk;
    expect((await blk.read(0, 512)).status).toBe(BLK_S.OK);
    const before = residentKilobytes(disk.daemon.pid);
    offerScattered(queue);
    kick.signal();
    await expect.poll(() => memory.view.getUint16(queue.used, true)).toBe(1);
    // In these turns the daemon would come to all of them, if it did not wait.
    for (let turn = 0; turn < 200; turn++) await disk.daemon.qmp.execute('query-block-exports');
    expect(residentKilobytes(disk.daemon.pid) - before).toBeLessThan(250 * 1024);
  });

  it('are done before memory is taken away', async () => {
    const disk = await serveDisk(ourSide);
    const { socket, release } = await throttled(disk);
    const device = await startDevice(socket, { memory: { lengths: [16 * MIB, MIB] } });
    const [, second] = device.memory.regions;
    if (second === undefined) throw new Error('there are two regions');
    expect((await device.disk.read(0, 512)).status).toBe(BLK_S.OK);
    const waiting = device.disk.read(512, 512);
    await taken(device.disk.queue, 2);
    const removed = device.frontend.acknowledged(REQUEST.REM_MEM_REG, singleRegion(second));
    await release();
    expect(await removed).toBe(0n);
    expect((await waiting).in).toEqual(numbered(1024).subarray(512));
    expect((await device.disk.read(0, 512)).status).toBe(BLK_S.OK);
  });

  it('hold up the end of an export that is removed, and not the daemon', async () => {
    const disk = await serveDisk(ourSide);
    const { socket, release } = await throttled(disk);
    const { disk: queue, frontend } = await startDevice(socket);
    expect((await queue.read(0, 512)).status).toBe(BLK_S.OK);
    void queue.read(512, 512);
    await taken(queue.queue, 2);
    const { qmp } = disk.daemon;
    await qmp.execute('block-export-del', { id: 'slow' });
    await frontend.ended;
    expect(await qmp.execute('query-block-exports')).toMatchObject([
      { id: 'slow', 'shutting-down': true },
      { id: 'disk' },
    ]);
    const deleted = qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    await release();
    expect(await deleted).toEqual({ id: 'slow' });
    await qmp.execute('blockdev-del', { 'node-name': 'slow' });
  });

  it('are served by the next daemon when theirs is killed', async () => {
    const first = await serveDisk(ourSide);
    const memory = guestMemory({ sealed: false });
    const before = await connectFrontend((await throttled(first)).socket);
    const features = await negotiateInflight(before);
    const answer = await before.ask(REQUEST.GET_INFLIGHT_FD, inflightPayload(0));
    const [inflight] = answer.descriptors;
    if (inflight === undefined) throw new Error('no inflight area');
    await before.acknowledged(REQUEST.SET_INFLIGHT_FD, answer.payload, [inflight]);
    await shareMemory(before, memory);
    const queue = new Virtqueue(memory, {
      size: QUEUE_SIZE,
      indirect: (features & FEATURE.INDIRECT_DESC) !== 0n,
      eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
    });
    const disk = await startQueue(before, queue);
    expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
    const written = Buffer.alloc(512, 0x77);
    void disk.write(512, written);
    void disk.write(1024, written);
    await taken(queue, 3);
    first.daemon.child.kill('SIGKILL');
    await once(first.daemon.child, 'close');
    expect(queue.usedIndex).toBe(1);

    const second = await serveDisk(ourSide);
    const after = await connectFrontend(second.socket);
    await negotiateInflight(after);
    await after.acknowledged(REQUEST.SET_INFLIGHT_FD, answer.payload, [inflight]);
    await shareMemory(after, memory);
    const again = await startQueue(after, queue);
    await expect.poll(() => queue.usedIndex).toBe(3);
    expect(second.image().subarray(512, 1536)).toEqual(Buffer.alloc(1024, 0x77));
    expect((await again.read(512, 512)).in).toEqual(written);
  });
});

describe('a disk that gets another size', () => {
  it('is announced, and has it in its configuration', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { frontend, disk } = await startDevice(socket);
    const features = PROTOCOL_F.CONFIG | PROTOCOL_F.BACKEND_REQ | PROTOCOL_F.REPLY_ACK;
    frontend.send(REQUEST.SET_PROTOCOL_FEATURES, u64(features));
    const [ours, theirs] = socketPair();
    await frontend.acknowledged(REQUEST.SET_BACKEND_REQ_FD, Buffer.alloc(0), [theirs]);
    const heard = new Promise<Buffer>((resolve) => {
      const buffer = allocate(64);
      const watch = frontend.poller.watch(ours, () => {
        const length = receiveWithDescriptors(ours, buffer.address, 64, []);
        watch.close();
        resolve(Buffer.from(buffer.bytes.subarray(0, length)));
      });
      watch.want(READABLE);
    });
    await daemon.qmp.execute('block_resize', { 'node-name': 'node', size: 2 * MIB });
    const CONFIG_CHANGE = 2;
    expect(await heard).toEqual(encode(CONFIG_CHANGE, Buffer.alloc(0), VERSION));
    expect((await readConfig(frontend))?.readBigUInt64LE()).toBe(BigInt((2 * MIB) / 512));
    const read = await disk.submit({ type: BLK_T.IN, sector: (2 * MIB) / 512 - 1, inLength: 512 });
    expect(read).toMatchObject({ status: BLK_S.OK, in: Buffer.alloc(512) });
  });
});
