// `addr` of type fd: a socket that the daemon has inherited, by its number, as service managers hand them over.

import { existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { boundLocalSocket } from '../../../src/net/bind.ts';
import { close } from '../../../src/sys/socket.ts';
import { startDaemon, type TestDaemon } from '../../helpers/daemon.ts';
import { tempDir } from '../../helpers/temp-dir.ts';
import { startDevice } from './device.ts';
import { numbered, type Side, sides } from './serve.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';

const MIB = 1024 * 1024;
/** Of what it inherits in the daemon. */
const FIRST_INHERITED = 3;

/** The socket `given.sock`, which listens though nobody serves it yet, and the disk. */
function prepare(): { directory: string; socket: string; fd: number } {
  const directory = tempDir();
  writeFileSync(`${directory}/disk.img`, numbered(MIB));
  const socket = `${directory}/given.sock`;
  const fd = boundLocalSocket({ type: 'unix', path: socket }, { backlog: 1, fdsByNumber: true });
  onTestFinished(() => close(fd));
  return { directory, socket, fd };
}

function serve(side: Side, directory: string, fd: number): Promise<TestDaemon> {
  return startDaemon({
    directory,
    command: side.command,
    inherited: [fd],
    args: [
      '--blockdev',
      'driver=file,node-name=node,filename=disk.img',
      '--export',
      `vhost-user-blk,id=disk,node-name=node,writable=on,addr.type=fd,addr.str=${FIRST_INHERITED}`,
    ],
  });
}

describe.each(sides)('vhost-user-blk on an inherited socket: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('serves frontends, one after the other, until it is removed', async () => {
    const { directory, socket, fd } = prepare();
    const daemon = await serve(side, directory, fd);
    for (let round = 0; round < 3; round++) {
      const device = await startDevice(socket);
      expect((await device.disk.write(round * SECTOR, Buffer.alloc(SECTOR, round))).status).toBe(
        BLK_S.OK,
      );
      device.close();
    }
    const { disk, frontend } = await startDevice(socket);
    const { in: bytes } = await disk.read(0, 3 * SECTOR);
    expect(bytes.every((byte, at) => byte === Math.floor(at / SECTOR))).toBe(true);
    expect(await daemon.qmp.execute('query-block-exports')).toEqual([
      { id: 'disk', type: 'vhost-user-blk', 'node-name': 'node', 'shutting-down': false },
    ]);
    await daemon.qmp.execute('block-export-del', { id: 'disk' });
    await frontend.ended;
    // It was handed over for good: nobody listens any more, and its file is gone.
    expect(existsSync(socket)).toBe(false);
    expect(await daemon.qmp.execute('query-block-exports')).toEqual([]);
  });

  test('serves a frontend that was there before it', async () => {
    const { directory, socket, fd } = prepare();
    const device = startDevice(socket);
    await serve(side, directory, fd);
    const { disk } = await device;
    expect((await disk.read(0, SECTOR)).in.equals(numbered(SECTOR))).toBe(true);
  });
});
