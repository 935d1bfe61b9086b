// Frontends that come and go, and exports that are removed meanwhile.

import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { connectFrontend, startDevice } from './device.ts';
import { REQUEST } from './messages.ts';
import { numbered, ourSide, serveDisk, sides } from './serve.ts';
import { BLK_S } from './virtio-blk.ts';

const exports = (daemon: { qmp: { execute(name: 'query-block-exports'): Promise<unknown> } }) =>
  daemon.qmp.execute('query-block-exports');

describe.each(sides)('the life of a vhost-user-blk export: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('serves one frontend after the other', async () => {
    const { socket } = await serveDisk(side);
    for (let count = 0; count < 3; count++) {
      const { disk, frontend } = await startDevice(socket);
      expect((await disk.read(512, 512)).in).toEqual(numbered(1024).subarray(512));
      frontend.close();
    }
  });

  test('lets a second frontend wait until the first has gone', async () => {
    const { socket } = await serveDisk(side);
    const first = await startDevice(socket);
    const second = await connectFrontend(socket);
    second.send(REQUEST.GET_QUEUE_NUM);
    const answer = second.receive();
    expect((await first.disk.read(0, 512)).status).toBe(BLK_S.OK);
    first.close();
    expect((await answer)?.request).toBe(REQUEST.GET_QUEUE_NUM);
  });

  test('ends with its frontend still there, and removes the socket', async () => {
    const { socket, daemon } = await serveDisk(side);
    const { frontend } = await startDevice(socket);
    const deleted = daemon.qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    await daemon.qmp.execute('block-export-del', { id: 'disk' });
    await frontend.ended;
    expect(await deleted).toEqual({ id: 'disk' });
    expect(await exports(daemon)).toEqual([]);
    expect(existsSync(socket)).toBe(false);
    await daemon.qmp.execute('blockdev-del', { 'node-name': 'node' });
  });

  test('removes the socket when the daemon quits', async () => {
    const { socket, daemon } = await serveDisk(side);
    const { frontend } = await startDevice(socket);
    await daemon.qmp.execute('quit');
    await frontend.ended;
    expect((await daemon.outcome).code).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });

  test('is one of several exports of a node', async () => {
    const { socket, daemon } = await serveDisk(side);
    await daemon.qmp.execute('nbd-server-start', {
      addr: { type: 'unix', data: { path: daemon.path('nbd.sock') } },
    });
    await daemon.qmp.execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'node' });
    await daemon.qmp.execute('block-export-add', {
      type: 'vhost-user-blk',
      id: 'second',
      'node-name': 'node',
      addr: { type: 'unix', path: daemon.path('second.sock') },
      writable: true,
    });
    const first = await startDevice(socket);
    const second = await startDevice(daemon.path('second.sock'));
    const written = Buffer.alloc(4096, 7);
    expect((await second.disk.write(4096, written)).status).toBe(BLK_S.OK);
    expect((await first.disk.read(4096, 4096)).in).toEqual(written);
    await daemon.qmp.execute('nbd-server-stop');
    expect(await exports(daemon)).toMatchObject([{ id: 'second' }, { id: 'disk' }]);
    expect((await first.disk.read(4096, 4096)).in).toEqual(written);
  });
});

describe('the life of a vhost-user-blk export', () => {
  it('leaves no descriptor open', async () => {
    const { socket, daemon } = await serveDisk(ourSide);
    // Once a frontend is answered, the one before it has gone with all that it had.
    const openWithOneFrontend = async () => {
      const frontend = await connectFrontend(socket);
      await frontend.askNumber(REQUEST.GET_QUEUE_NUM);
      const { length } = readdirSync(`/proc/${daemon.pid}/fd`);
      frontend.close();
      return length;
    };
    const before = await openWithOneFrontend();
    for (let count = 0; count < 5; count++) {
      const { disk, frontend } = await startDevice(socket);
      await disk.read(0, 512);
      // Files with a message that ends the session.
      const { fd } = disk.kick;
      frontend.send(99, Buffer.alloc(8), { descriptors: [fd, fd, fd] });
      await frontend.ended;
    }
    expect(await openWithOneFrontend()).toBe(before);
  });
});
