// A daemon that is killed under a running guest: the next one finds the requests that were under way, and the guest only
// waits. The reference cannot do this; its device does not offer to note them.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { bootGuest } from './guest/boot.ts';
import { guestParts } from './guest/kernel.ts';

const LENGTH = 32 * 1024 * 1024;
/** fio comes with many libraries, which take room. */
const fio = missing('fio');
const parts = fio === undefined ? guestParts('fio') : guestParts();
const MEMORY = fio === undefined ? 512 : 192;

interface Disk {
  readonly image: string;
  readonly socket: string;
}

/** `bytesPerSecond`: how much it writes at most; 0 for as much as it can. */
function serve({ image, socket }: Disk, bytesPerSecond: number): Promise<TestDaemon> {
  return startDaemon({
    args: [
      '--object',
      `throttle-group,id=rate,limits.bps-write=${bytesPerSecond}`,
      '--blockdev',
      `throttle,node-name=node,throttle-group=rate,file.driver=file,file.filename=${image}`,
      '--export',
      `vhost-user-blk,id=disk,node-name=node,addr.type=unix,addr.path=${socket},writable=on`,
    ],
  });
}

/** Many requests of all lengths under way at once, each block read back. */
const verify =
  '/host/fio --name=v --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite ' +
  '--bsrange=4k-64k --size=8m --verify=crc32c --verify_fatal=1';

const reason = typeof parts === 'string' ? ` (${parts})` : '';

describe.skipIf(reason !== '')(`a guest whose daemon is killed${reason}`, () => {
  it('goes on with the next one, without an error and without a lost write', async () => {
    if (typeof parts === 'string') throw new Error(parts);
    const directory = tempDir();
    const disk = { image: path.join(directory, 'disk.img'), socket: path.join(directory, 's') };
    writeFileSync(disk.image, Buffer.alloc(LENGTH));
    // So that the guest is not done before it is killed, however late that is.
    const first = await serve(disk, LENGTH / 32);
    const guest = await bootGuest({
      parts,
      directory,
      // Memory that has to be copied by the kernel, for a change.
      sealedMemory: false,
      memory: MEMORY,
      disks: [{ socket: disk.socket, reconnect: true }],
    });
    await guest.succeed('yes written | dd of=/tmp/new bs=1M count=32 iflag=fullblock');
    const written = guest.succeed('dd if=/tmp/new of=/dev/vda bs=16k oflag=direct conv=fsync');
    await expect.poll(() => readFileSync(disk.image)[256 * 1024]).not.toBe(0);
    first.child.kill('SIGKILL');
    await once(first.child, 'close');
    const left = readFileSync(disk.image).at(-1);
    await serve(disk, 0);
    await written;
    expect(left).toBe(0);
    expect(readFileSync(disk.image).equals(Buffer.alloc(LENGTH, 'written\n'))).toBe(true);
    if (fio === undefined) await guest.succeed(verify);
  }, 240_000);
});
