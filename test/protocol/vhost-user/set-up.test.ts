import { describe, expect, it } from 'vitest';
import { CONFIG_LENGTH, FEATURE, readConfig } from './bring-up.ts';
import { connectFrontend, startDevice } from './device.ts';
import {
  config,
  PROTOCOL_F,
  REPLY,
  REQUEST,
  VERSION,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from './messages.ts';
import { serveDisk, sides } from './serve.ts';

const MIB = 1024 * 1024;
const ALL_FEATURES = Object.values(FEATURE).reduce((all, each) => all | each, 0n);
/** VIRTIO_F_NOTIFY_ON_EMPTY of old and VHOST_F_LOG_ALL: the reference offers them with every device. */
const UNUSED_FEATURES = (1n << 24n) | (1n << 26n);

/** struct virtio_blk_config (virtio 1.x, 5.2.4), what is not 0 on a disk without a geometry. */
function expectedConfig(disk: {
  length: number;
  blockSize: number;
  queues: number;
  cacheMode: 0 | 1;
}): Buffer {
  const bytes = Buffer.alloc(CONFIG_LENGTH);
  bytes.writeBigUInt64LE(BigInt(disk.length / 512), 0); // capacity
  bytes.writeUInt32LE(126, 12); // seg_max
  bytes.writeUInt32LE(disk.blockSize, 20); // blk_size
  bytes.writeUInt16LE(1, 26); // min_io_size
  bytes.writeUInt32LE(1, 28); // opt_io_size
  bytes.writeUInt8(disk.cacheMode, 32); // writeback
  bytes.writeUInt16LE(disk.queues, 34); // num_queues
  bytes.writeUInt32LE(32768, 36); // max_discard_sectors
  bytes.writeUInt32LE(1, 40); // max_discard_seg
  bytes.writeUInt32LE(disk.blockSize / 512, 44); // discard_sector_alignment
  bytes.writeUInt32LE(32768, 48); // max_write_zeroes_sectors
  bytes.writeUInt32LE(1, 52); // max_write_zeroes_seg
  return bytes;
}

describe.each(sides)('set-up of vhost-user-blk: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('offers the features of a disk that can be written', async () => {
    const { socket } = await serveDisk(side);
    const frontend = await connectFrontend(socket);
    const offered = await frontend.askNumber(REQUEST.GET_FEATURES);
    expect(offered & ~UNUSED_FEATURES).toBe(
      (ALL_FEATURES & ~FEATURE.RO) | VHOST_USER_F_PROTOCOL_FEATURES,
    );
  });

  test('offers a disk that cannot be written as such', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=off' });
    const frontend = await connectFrontend(socket);
    const features = await frontend.askNumber(REQUEST.GET_FEATURES);
    expect(features & FEATURE.RO).toBe(FEATURE.RO);
  });

  test('offers the protocol features that its frontends use', async () => {
    const { socket } = await serveDisk(side);
    const frontend = await connectFrontend(socket);
    const offered = await frontend.askNumber(REQUEST.GET_PROTOCOL_FEATURES);
    const { MQ, REPLY_ACK, CONFIG, CONFIGURE_MEM_SLOTS } = PROTOCOL_F;
    expect(offered & (MQ | REPLY_ACK | CONFIG | CONFIGURE_MEM_SLOTS)).toBe(
      MQ | REPLY_ACK | CONFIG | CONFIGURE_MEM_SLOTS,
    );
  });

  test('answers with the version, the reply flag and the number that was asked', async () => {
    const { socket } = await serveDisk(side);
    const frontend = await connectFrontend(socket);
    const reply = await frontend.ask(REQUEST.GET_FEATURES);
    expect(reply.flags).toBe(VERSION | REPLY);
    expect(reply.payload).toHaveLength(8);
    expect(reply.descriptors).toEqual([]);
  });

  test('tells how many queues and memory slots it has', async () => {
    const { socket } = await serveDisk(side, { options: 'writable=on,num-queues=3' });
    const frontend = await connectFrontend(socket);
    expect(await frontend.askNumber(REQUEST.GET_QUEUE_NUM)).toBe(3n);
    expect(await frontend.askNumber(REQUEST.GET_MAX_MEM_SLOTS)).toBe(32n);
  });

  test.each([
    { blockSize: 512, queues: 1 },
    { blockSize: 4096, queues: 2 },
  ])('has the configuration of $queues queues and blocks of $blockSize', async (disk) => {
    const { socket } = await serveDisk(side, {
      options: `writable=on,num-queues=${disk.queues},logical-block-size=${disk.blockSize}`,
    });
    const { frontend } = await startDevice(socket);
    expect(await readConfig(frontend)).toEqual(
      expectedConfig({ length: MIB, ...disk, cacheMode: side.cacheMode }),
    );
  });

  test('gives the part of its configuration that is asked for, and none that is too long', async () => {
    const { socket } = await serveDisk(side);
    const { frontend } = await startDevice(socket);
    const short = await readConfig(frontend, 8);
    expect(short?.readBigUInt64LE()).toBe(BigInt(MIB / 512));
    expect(await readConfig(frontend, 256)).toBeUndefined();
    expect(await readConfig(frontend)).toHaveLength(CONFIG_LENGTH);
  });

  test('acknowledges a message that wants it with 0', async () => {
    const { socket } = await serveDisk(side);
    const { frontend } = await startDevice(socket);
    expect(await frontend.acknowledged(REQUEST.SET_OWNER, Buffer.alloc(0))).toBe(0n);
  });

  test('takes its memory in one table, too', async () => {
    const { socket } = await serveDisk(side);
    const { disk } = await startDevice(socket, {
      table: true,
      memory: { lengths: [4 * MIB, MIB] },
    });
    expect((await disk.read(0, 512)).status).toBe(0);
  });

  test('lets the driver switch its write cache, and write nothing else', async () => {
    const { socket, daemon } = await serveDisk(side);
    const { frontend } = await startDevice(socket);
    const wce = 32;
    for (const value of [1, 0, 1]) {
      await frontend.acknowledged(REQUEST.SET_CONFIG, config(wce, Buffer.from([value])));
      expect((await readConfig(frontend))?.[wce]).toBe(value);
    }
    frontend.send(REQUEST.SET_CONFIG, config(0, Buffer.from([1])));
    await frontend.ended;
    const next = await startDevice(socket);
    expect(await readConfig(next.frontend)).toHaveLength(CONFIG_LENGTH);
    expect(daemon.child.exitCode).toBeNull();
  });
});
