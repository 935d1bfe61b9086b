// A daemon that is killed under a running guest: the next one finds the requests that were under way, and the guest only
// waits. The reference cannot do this; its device does not offer to note them.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { Guest } from './guest/guest.ts';
import { guestParts } from './guest/kernel.ts';

const LENGTH = 32 * 1024 * 1024;
const parts = guestParts();

function serve(disk: { readonly image: string; readonly socket: string }): Promise<TestDaemon> {
  const { image, socket } = disk;
  return startDaemon({
    args: [
      '--blockdev',
      `file,node-name=node,filename=${image}`,
      '--export',
      `vhost-user-blk,id=disk,node-name=node,addr.type=unix,addr.path=${socket},writable=on`,
    ],
  });
}

const reason = typeof parts === 'string' ? ` (${parts})` : '';

describe.skipIf(reason !== '')(`a guest whose daemon is killed${reason}`, () => {
  it('goes on with the next one, without an error and without a lost write', async () => {
    if (typeof parts === 'string') throw new Error(parts);
    const directory = tempDir();
    const disk = { image: path.join(directory, 'disk.img'), socket: path.join(directory, 's') };
    writeFileSync(disk.image, Buffer.alloc(LENGTH));
    const first = await serve(disk);
    const guest = await Guest.boot({
      parts,
      directory,
      sealedMemory: false,
      disks: [{ socket: disk.socket, reconnect: true }],
      // Memory that has to be copied by the kernel, for a change.
      sealed: false,
    });
    await guest.succeed('yes written | dd of=/tmp/new bs=1M count=32 iflag=fullblock');
    const written = guest.succeed('dd if=/tmp/new of=/dev/vda bs=16k oflag=direct conv=fsync');
    await expect.poll(() => readFileSync(disk.image)[256 * 1024], { timeout: 30_000 }).not.toBe(0);
    first.child.kill('SIGKILL');
    await once(first.child, 'close');
    const left = readFileSync(disk.image).at(-1);
    await serve(disk);
    await written;
    expect(left).toBe(0);
    expect(readFileSync(disk.image).equals(Buffer.alloc(LENGTH, 'written\n'))).toBe(true);
  }, 120_000);
});
