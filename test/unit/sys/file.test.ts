import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import * as blockDevice from '../../../src/sys/block-device.ts';
import * as files from '../../../src/sys/file.ts';
import { libc } from '../../../src/sys/libc.ts';
import { allocate } from '../../../src/sys/memory.ts';

const cleanups: (() => void)[] = [];

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function scratchFile(content: string | Buffer = '', base = tmpdir()): string {
  const directory = mkdtempSync(join(base, 'file-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'file');
  writeFileSync(path, content);
  return path;
}

function opened(path: string, flags: number = files.O_RDWR): number {
  const fd = files.openFile(path, flags);
  cleanups.push(() => files.closeFile(fd));
  return fd;
}

/** cachestat(2) came with Linux 6.5. */
const [major = 0, minor = 0] = release().split('.').map(Number);
const knowsCachedPages = major > 6 || (major === 6 && minor >= 5);

describe('CacheProbe', () => {
  it('tells what is in the page cache', () => {
    const fd = opened(scratchFile(Buffer.alloc(200_000, 7)));
    const probe = new files.CacheProbe();
    expect(probe.covers(fd, 0, 200_000)).toBe(knowsCachedPages);
    expect(probe.covers(fd, 4095, 2)).toBe(knowsCachedPages);
  });

  it('says no to what lies beyond the end', () => {
    const fd = opened(scratchFile(Buffer.alloc(5000, 7)));
    const probe = new files.CacheProbe();
    expect(probe.covers(fd, 0, 5001)).toBe(false);
    expect(probe.covers(fd, 0, 10_000)).toBe(false);
    expect(probe.covers(fd, 2 ** 50, 4096)).toBe(false);
  });

  it('says no to holes and to what is not in memory', () => {
    const path = scratchFile(Buffer.alloc(4096, 7));
    truncateSync(path, 1 << 20);
    expect(new files.CacheProbe().covers(opened(path), 0, 1 << 20)).toBe(false);
  });
});

describe('file', () => {
  it('opens close-on-exec, or says why not', () => {
    const fd = opened(scratchFile());
    expect(libc.fcntl(fd, 1, 0)).toBe(1);
    expect(() => files.openFile('/nowhere/x', files.O_RDONLY)).toThrow(
      expect.objectContaining({
        errno: errno.ENOENT,
        context: { syscall: 'open', path: '/nowhere/x' },
      }),
    );
  });

  it('opens no other file for a path with a NUL in it', () => {
    expect(() => files.openFile(`${scratchFile()}\0x`, files.O_RDONLY)).toThrow(
      expect.objectContaining({ errno: errno.ENOENT }),
    );
  });

  it('reads and writes at once, answering counts and errnos', () => {
    const path = scratchFile('0123456789');
    const fd = opened(path);
    const memory = allocate(16);
    expect(files.preadNow(fd, memory.address + 2, 4, 3)).toBe(4);
    expect(memory.bytes.toString('latin1', 0, 8)).toBe('\0\x003456\0\0');
    expect(files.pwriteNow(fd, memory.address + 2, 4, 8)).toBe(4);
    expect(readFileSync(path, 'latin1')).toBe('012345673456');
    expect(files.preadNow(fd, memory.address, 4, 100)).toBe(0);
    expect(files.preadNow(9999, memory.address, 4, 0)).toBe(-errno.EBADF);
    expect(files.pwriteNow(opened(path, files.O_RDONLY), memory.address, 4, 0)).toBe(-errno.EBADF);
  });

  it('reads what is cached without waiting', () => {
    const fd = opened(scratchFile('0123456789'));
    const memory = allocate(16);
    const reader = new files.NowReader();
    expect(reader.read(fd, memory.address + 1, 15, 4)).toBe(6);
    expect(memory.bytes.toString('latin1', 1, 7)).toBe('456789');
    expect(reader.read(fd, memory.address, 15, 10)).toBe(0);
    expect(reader.read(9999, memory.address, 15, 10)).toBe(-errno.EBADF);
  });

  it('reads and writes later', async () => {
    const path = scratchFile('0123456789');
    const fd = opened(path);
    const { bytes } = allocate(16);
    expect(await files.preadLater({ fd, bytes, at: 2, length: 4, offset: 3 })).toBe(4);
    expect(bytes.toString('latin1', 2, 6)).toBe('3456');
    expect(await files.pwriteLater({ fd, bytes, at: 2, length: 4, offset: 0 })).toBe(4);
    expect(readFileSync(path, 'latin1')).toBe('3456456789');
    await files.fdatasyncLater(fd);
    await expect(
      files.preadLater({ fd: 9999, bytes, at: 0, length: 1, offset: 7 }),
    ).rejects.toMatchObject({ errno: errno.EBADF, context: { syscall: 'pread', offset: 7 } });
  });

  it('finds data and holes beyond 4 GiB', () => {
    const path = scratchFile();
    truncateSync(path, 6 * 2 ** 30);
    const fd = opened(path);
    const memory = allocate(4096);
    const at = 5 * 2 ** 30;
    expect(files.pwriteNow(fd, memory.address, 4096, at)).toBe(4096);
    expect(files.seekData(fd, 4096)).toBe(at);
    expect(files.seekHole(fd, at)).toBe(at + 4096);
    expect(files.seekData(fd, at + 4096)).toBe(-errno.ENXIO);
    expect(files.fileLength(fd)).toBe(6 * 2 ** 30);
  });

  it('allocates and punches', async () => {
    const path = scratchFile(Buffer.alloc(16384, 1));
    const fd = opened(path);
    const punch = files.FALLOC_FL_PUNCH_HOLE | files.FALLOC_FL_KEEP_SIZE;
    expect(await files.fallocateLater(fd, punch, 4096, 4096)).toBe(0);
    expect(files.seekHole(fd, 0)).toBe(4096);
    expect(await files.fallocateLater(fd, 0, 16384, 4096)).toBe(0);
    expect(files.fileLength(fd)).toBe(20480);
    expect(await files.fallocateLater(9999, 0, 0, 1)).toBe(-errno.EBADF);
  });

  it('makes more calls in flight than the binding allows', async () => {
    const fd = opened(scratchFile(Buffer.alloc(4096)));
    const calls = Array.from({ length: 3000 }, (_, n) =>
      files.fallocateLater(n % 2 === 0 ? fd : 9999, 0, 0, 4096),
    );
    const results = await Promise.all(calls);
    expect(new Set(results.filter((_, n) => n % 2 === 0))).toEqual(new Set([0]));
    expect(new Set(results.filter((_, n) => n % 2 === 1))).toEqual(new Set([-errno.EBADF]));
  });

  it('locks bytes for the open file, not for the process', () => {
    const path = scratchFile();
    const one = opened(path);
    const other = opened(path);
    expect(files.lockByte(one, 100, files.F_RDLCK)).toBe(0);
    expect(files.lockByte(other, 100, files.F_RDLCK)).toBe(0);
    expect(files.testLockByte(other, 100, files.F_WRLCK)).toBe(-errno.EAGAIN);
    expect(files.testLockByte(other, 101, files.F_WRLCK)).toBe(0);
    expect(files.lockByte(other, 100, files.F_WRLCK)).toBe(-errno.EAGAIN);
    expect(files.lockByte(one, 100, files.F_UNLCK)).toBe(0);
    expect(files.lockByte(other, 100, files.F_WRLCK)).toBe(0);
  });

  it('knows file systems that live in memory', () => {
    expect(files.isInMemory(opened(scratchFile('', '/dev/shm')))).toBe(true);
    expect(files.isOnNfs(opened(scratchFile('', '/dev/shm')))).toBe(false);
    expect(files.isInMemory(9999)).toBe(false);
  });
});

describe('block-device', () => {
  it('has no answers about regular files', async () => {
    const fd = opened(scratchFile(Buffer.alloc(4096)));
    expect(blockDevice.isReadOnlyDevice(fd)).toBe(-errno.ENOTTY);
    expect(blockDevice.logicalBlockSize(fd)).toBe(-errno.ENOTTY);
    expect(await blockDevice.zeroDeviceRange(fd, 0, 4096)).toBe(-errno.ENOTTY);
    expect(await blockDevice.discardDeviceRange(fd, 0, 4096)).toBe(-errno.ENOTTY);
  });
});
