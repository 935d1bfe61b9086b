// A Linux guest's own driver on our vhost-user-blk. GUEST_SIDES=all runs the reference through the same life first, which
// proves the test instead of the daemon.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, watch, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { openDescriptors } from '../helpers/descriptors.ts';
import { findProgram, missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { startDevice } from '../protocol/vhost-user/device.ts';
import { numbered, ourSide, type Side, sides } from '../protocol/vhost-user/serve.ts';
import { bootGuest } from './guest/boot.ts';
import type { Guest } from './guest/guest.ts';
import { guestParts } from './guest/kernel.ts';

const MIB = 1024 * 1024;
const LENGTH = 32 * MIB;
const BLOCK = 4096;

const parts = guestParts();
const reason = typeof parts === 'string' ? parts : missing('e2fsck');
const tested = process.env['GUEST_SIDES'] === 'all' ? sides : [ourSide];

interface Disk {
  readonly name: string;
  readonly options: string;
}

/** /dev/vda, /dev/vdb and /dev/vdc. */
const disks: readonly Disk[] = [
  { name: 'plain', options: 'writable=on' },
  { name: 'blocks', options: 'writable=on,logical-block-size=4096,num-queues=2' },
  { name: 'fixed', options: 'writable=off' },
];

async function serveDisks(side: Side): Promise<TestDaemon> {
  const directory = tempDir();
  for (const { name } of disks)
    writeFileSync(path.join(directory, `${name}.img`), numbered(LENGTH));
  return startDaemon({
    directory,
    command: side.command,
    args: disks.flatMap(({ name, options }) => [
      '--blockdev',
      `file,node-name=${name},filename=${name}.img,discard=unmap`,
      '--export',
      `vhost-user-blk,id=${name},node-name=${name},addr.type=unix,addr.path=${name}.sock,${options}`,
    ]),
  });
}

describe.skipIf(reason !== undefined).each(tested)(
  `a Linux guest on vhost-user-blk: $name${reason === undefined ? '' : ` (${reason})`}`,
  (side) => {
    it('reads, writes, discards, partitions, mounts, reboots and dies', async () => {
      if (typeof parts === 'string') throw new Error(parts);
      const daemon = await serveDisks(side);
      const before = await descriptorsInUse(daemon);
      const guest = await bootGuest({
        parts,
        directory: daemon.directory,
        disks: disks.map(({ name }) => ({
          socket: daemon.path(`${name}.sock`),
          queues: name === 'blocks' ? 2 : 1,
        })),
      });
      await seesWhatIsServed(guest, daemon);
      await readsAndWrites(guest, daemon);
      await discardsAndZeroes(guest, daemon);
      await changesNothingFixed(guest, daemon);
      await usesBothQueues(guest, daemon);
      await partitions(guest);
      await guest.reboot();
      await findsItsFiles(guest);
      checkFileSystem(daemon, 'plain', MIB, 12 * MIB);
      await diesWhileItWrites(guest, daemon);
      expect(await descriptorsInUse(daemon)).toBe(before);
      expect(daemon.child.exitCode).toBeNull();
    }, 300_000);
  },
);

async function seesWhatIsServed(guest: Guest, daemon: TestDaemon): Promise<void> {
  const attribute = (name: string): Promise<string> => guest.succeed(`cat /sys/block/${name}`);
  for (const disk of ['vda', 'vdb', 'vdc']) {
    expect(Number(await attribute(`${disk}/size`))).toBe(LENGTH / 512);
    expect(await attribute(`${disk}/serial`)).toBe('vhost_user_blk');
  }
  expect(await attribute('vda/ro')).toBe('0');
  expect(await attribute('vdc/ro')).toBe('1');
  expect(await attribute('vda/queue/logical_block_size')).toBe('512');
  expect(await attribute('vdb/queue/logical_block_size')).toBe('4096');
  expect(Number(await attribute('vda/queue/discard_max_bytes'))).toBe(16 * MIB);
  expect(Number(await attribute('vda/queue/write_zeroes_max_bytes'))).toBe(16 * MIB);
  expect(await guest.succeed('ls -1 /sys/block/vda/mq')).toBe('0');
  expect(await guest.succeed('ls -1 /sys/block/vdb/mq')).toBe('0\n1');
  for (const [at, { name }] of disks.entries()) {
    const sum = await guest.succeed(`head -c ${4 * MIB} /dev/vd${'abc'[at]} | sha256sum`);
    expect(sum.split(' ')[0]).toBe(checksum(image(daemon, name).subarray(0, 4 * MIB)));
  }
}

async function readsAndWrites(guest: Guest, daemon: TestDaemon): Promise<void> {
  // The cache mode as it is, then the other one: the driver tells the device with SET_CONFIG.
  for (const [round, mode] of ['write through', 'write back'].entries()) {
    await guest.succeed(`echo ${mode} > /sys/block/vda/cache_type`);
    expect(await guest.succeed('cat /sys/block/vda/cache_type')).toBe(mode);
    const at = 16 + round;
    await guest.succeed(
      `yes round-${round} | dd of=/dev/vda bs=1M count=1 iflag=fullblock seek=${at} conv=fsync`,
    );
    await guest.succeed(
      `yes round-${round} | dd of=/dev/vda bs=64k count=16 iflag=fullblock seek=${(at + 4) * 16} oflag=direct`,
    );
    const expected = Buffer.alloc(MIB, `round-${round}\n`);
    for (const start of [at, at + 4]) {
      const written = image(daemon, 'plain').subarray(start * MIB, (start + 1) * MIB);
      expect(written.equals(expected)).toBe(true);
    }
  }
  const read = await guest.succeed('dd if=/dev/vda bs=1M skip=16 count=8 iflag=direct | sha256sum');
  expect(read).toContain(checksum(image(daemon, 'plain').subarray(16 * MIB, 24 * MIB)));
}

async function discardsAndZeroes(guest: Guest, daemon: TestDaemon): Promise<void> {
  await guest.succeed(`/host/blkdiscard -o ${16 * MIB} -l ${MIB} /dev/vda`);
  await guest.succeed(`/host/blkdiscard -z -o ${20 * MIB} -l ${MIB} /dev/vda`);
  const zeroes = Buffer.alloc(MIB);
  expect(
    image(daemon, 'plain')
      .subarray(16 * MIB, 17 * MIB)
      .equals(zeroes),
  ).toBe(true);
  expect(
    image(daemon, 'plain')
      .subarray(20 * MIB, 21 * MIB)
      .equals(zeroes),
  ).toBe(true);
  expect(image(daemon, 'plain')[17 * MIB]).not.toBe(0);
  const read = await guest.succeed('dd if=/dev/vda bs=1M skip=16 count=8 iflag=direct | sha256sum');
  expect(read).toContain(checksum(image(daemon, 'plain').subarray(16 * MIB, 24 * MIB)));
}

async function changesNothingFixed(guest: Guest, daemon: TestDaemon): Promise<void> {
  const { status } = await guest.run(
    'dd if=/dev/zero of=/dev/vdc bs=4k count=1 conv=notrunc,fsync',
  );
  expect(status).not.toBe(0);
  expect(image(daemon, 'fixed').equals(numbered(LENGTH))).toBe(true);
}

/** A file system on blocks of 4 KiB, filled from both processors at once. */
async function usesBothQueues(guest: Guest, daemon: TestDaemon): Promise<void> {
  await guest.succeed('/host/mkfs.ext4 -q /dev/vdb && mount -t ext4 /dev/vdb /mnt');
  const fill = (cpu: number) =>
    `taskset ${cpu + 1} sh -c "yes cpu-${cpu} | dd of=/mnt/${cpu} bs=64k count=32 iflag=fullblock conv=fsync"`;
  await guest.succeed(`${fill(0)} & ${fill(1)}; wait`);
  await guest.succeed('umount /mnt');
  checkFileSystem(daemon, 'blocks', 0, LENGTH);
  await guest.succeed('mount -t ext4 -o ro /dev/vdb /mnt');
  for (const cpu of [0, 1]) {
    const sum = await guest.succeed(`sha256sum /mnt/${cpu}`);
    const line = `cpu-${cpu}\n`;
    expect(sum.split(' ')[0]).toBe(checksum(Buffer.alloc(32 * 65_536, line)));
  }
  await guest.succeed('umount /mnt');
}

async function partitions(guest: Guest): Promise<void> {
  await guest.succeed(
    `printf 'o\\nn\\np\\n1\\n2048\\n+11M\\nn\\np\\n2\\n\\n\\nw\\n' | fdisk /dev/vda > /dev/null`,
  );
  expect(await guest.succeed('ls -1 /dev/vda?')).toBe('/dev/vda1\n/dev/vda2');
  await guest.succeed('/host/mkfs.ext4 -q /dev/vda1 && mount -t ext4 -o discard /dev/vda1 /mnt');
  await guest.succeed(
    'cp /host/* /mnt && cd /mnt && sha256sum mkfs.ext4 > sums && rm blkdiscard && sync',
  );
}

/** What was synchronised is there after a reset, though nothing was unmounted. */
async function findsItsFiles(guest: Guest): Promise<void> {
  await guest.succeed('mount -t ext4 /dev/vda1 /mnt');
  expect(await guest.succeed('cd /mnt && sha256sum -c sums')).toBe('mkfs.ext4: OK');
  expect(await guest.succeed('ls /mnt')).not.toContain('blkdiscard');
  await guest.succeed('umount /mnt');
}

/** The virtual machine is killed while it writes; each block is then the old one or the new one, and the disk can be had. */
async function diesWhileItWrites(guest: Guest, daemon: TestDaemon): Promise<void> {
  const [start, length] = [24 * MIB, 8 * MIB];
  await guest.succeed(`/host/blkdiscard -z -o ${start} -l ${length} /dev/vda`);
  await guest.succeed(`yes new | dd of=/tmp/new bs=1M count=8 iflag=fullblock`);
  const written = changes(daemon.path('plain.img'), 20);
  guest.start(
    'while dd if=/tmp/new of=/dev/vda bs=64k seek=384 oflag=direct conv=notrunc; do :; done',
  );
  await written;
  await guest.kill();
  const device = await startDevice(daemon.path('plain.sock'));
  const bytes = Buffer.concat(
    await Promise.all(
      [0, 2, 4, 6].map(async (each) => {
        const { status, in: part } = await device.disk.read(start + each * MIB, MIB / 2);
        expect(status).toBe(0);
        return part;
      }),
    ),
  );
  device.close();
  const [old, fresh] = [Buffer.alloc(BLOCK), Buffer.alloc(BLOCK, 'new\n')];
  let count = 0;
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK);
    if (block.equals(fresh)) count++;
    else expect(block.equals(old)).toBe(true);
  }
  expect(count).toBeGreaterThan(0);
}

/** Resolves once the file has changed so often. */
async function changes(file: string, count: number): Promise<void> {
  const watcher = watch(file);
  let left = count;
  await new Promise<void>((resolve) => {
    watcher.on('change', () => {
      if (--left <= 0) resolve();
    });
  });
  watcher.close();
}

/** Descriptors of the daemon while a frontend of ours is there: whoever was before it has been cleaned up behind then. */
async function descriptorsInUse(daemon: TestDaemon): Promise<number> {
  const devices = await Promise.all(
    disks.map(({ name }) => startDevice(daemon.path(`${name}.sock`))),
  );
  const count = openDescriptors(daemon.pid);
  for (const device of devices) device.close();
  return count;
}

function checkFileSystem(daemon: TestDaemon, name: string, start: number, length: number): void {
  const copy = daemon.path('file-system');
  writeFileSync(copy, image(daemon, name).subarray(start, start + length));
  execFileSync(findProgram('e2fsck') ?? '', ['-fn', copy], { stdio: 'pipe' });
}

function image(daemon: TestDaemon, name: string): Buffer {
  return readFileSync(daemon.path(`${name}.img`));
}

function checksum(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
