// What only ours can: removals that leave the frontend alone, rings that nobody kicks, frontends that listen late, and a device
// that is reset.

import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CONFIG_LENGTH, readConfig } from './bring-up.ts';
import { connectFrontend, startDevice, startQueue } from './device.ts';
import { config, encode, NO_DESCRIPTOR, REQUEST, u64 } from './messages.ts';
import { numbered, ourSide, serveDisk } from './serve.ts';
import { BLK_S, BLK_T } from './virtio-blk.ts';
import { Virtqueue } from './virtqueue.ts';

describe('x-block-export-del of a vhost-user-blk export', () => {
  it.each([
    { mode: 'hide', status: BLK_S.OK },
    { mode: 'soft', status: BLK_S.IOERR },
  ] as const)('with $mode leaves it to its frontend', async (removal) => {
    const { socket, daemon } = await serveDisk(ourSide);
    const { disk, frontend } = await startDevice(socket);
    await daemon.qmp.execute('x-block-export-del', { id: 'disk', mode: removal.mode });
    expect(existsSync(socket)).toBe(false);
    expect((await disk.read(0, 512)).status).toBe(removal.status);
    expect(await daemon.qmp.execute('query-block-exports')).toMatchObject([
      { id: 'disk', 'shutting-down': true },
    ]);
    const deleted = daemon.qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    frontend.close();
    expect(await deleted).toEqual({ id: 'disk' });
  });
});

describe('a ring without a kick counter', () => {
  it('is looked at all the same', async () => {
    const { socket } = await serveDisk(ourSide);
    const { disk, frontend } = await startDevice(socket);
    await frontend.acknowledged(REQUEST.SET_VRING_KICK, u64(NO_DESCRIPTOR));
    const read = { type: BLK_T.IN, sector: 0, inLength: 512 };
    for (let count = 0; count < 3; count++) {
      expect((await disk.submit(read, { kick: false })).in).toEqual(numbered(512));
    }
  });
});

describe('a frontend that listens late', () => {
  it('gets every answer', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    const frontend = await connectFrontend(socket);
    // More answers than the socket has room for.
    const count = 3000;
    const question = encode(REQUEST.GET_QUEUE_NUM, Buffer.alloc(0));
    frontend.listening = false;
    frontend.sendBytes(Buffer.concat(Array.from({ length: count }, () => question)));
    // In these turns the daemon would come to all of them, if it did not wait for us.
    for (let turn = 0; turn < 100; turn++) await daemon.qmp.execute('query-block-exports');
    frontend.listening = true;
    for (let answer = 0; answer < count; answer++) {
      expect((await frontend.receive())?.request).toBe(REQUEST.GET_QUEUE_NUM);
    }
  });
});

describe('a part of the configuration', () => {
  it('is the one that was asked for', async () => {
    const { socket } = await serveDisk(ourSide);
    const { frontend } = await startDevice(socket);
    const [at, length] = [20, 8];
    const { payload } = await frontend.ask(REQUEST.GET_CONFIG, config(at, Buffer.alloc(length)));
    const whole = await readConfig(frontend);
    expect(payload.subarray(12)).toEqual(whole?.subarray(at, at + length));
    const beyond = await frontend.ask(
      REQUEST.GET_CONFIG,
      config(CONFIG_LENGTH - 1, Buffer.alloc(2)),
    );
    expect(beyond.payload).toHaveLength(0);
  });
});

describe('RESET_DEVICE', () => {
  it('lets the driver start anew', async () => {
    const REQUEST_NUMBER = 34;
    const { socket } = await serveDisk(ourSide);
    const { disk, frontend, memory } = await startDevice(socket);
    expect((await disk.read(0, 512)).status).toBe(BLK_S.OK);
    expect(await frontend.acknowledged(REQUEST_NUMBER, Buffer.alloc(0))).toBe(0n);
    const queue = new Virtqueue(memory, { size: 64, indirect: true, eventIndex: true });
    const again = await startQueue(frontend, queue);
    expect((await again.read(512, 512)).in).toEqual(numbered(1024).subarray(512));
  });
});
