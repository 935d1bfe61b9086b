// Files by direct system calls. Inline calls (…Now) answer a count or a negative errno, so that the data path allocates
// nothing; calls that may wait (…Later) run in libuv's thread pool. Plain reads, writes and syncs go there through node:fs,
// whose queueing is several times cheaper than koffi's when many are in flight; the rest goes through koffi.
// The pool has 4 threads unless UV_THREADPOOL_SIZE says otherwise before it is first used.

import {
  fdatasync,
  fstatSync,
  fsync,
  ftruncate,
  read,
  readFileSync,
  readlinkSync,
  type Stats,
  statfsSync,
  write,
} from 'node:fs';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf, errnoNow, libc, MAX_ASYNC_CALLS } from './libc.ts';

export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_NONBLOCK = 0o4000;
export const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;
const O_CLOEXEC = 0o2000000;
const O_PATH = 0o10000000;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

const RWF_NOWAIT = 8;
/** The same number on every architecture. */
const SYS_cachestat = 451;
/** Of the page cache: larger pages only make the count of needed ones too large, and the answer no. */
const PAGE_SIZE = 4096;
const POSIX_FADV_DONTNEED = 4;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
type LockKind = typeof F_RDLCK | typeof F_WRLCK | typeof F_UNLCK;

const NFS_SUPER_MAGIC = 0x6969;
const FUSE_SUPER_MAGIC = 0x65735546;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;
const HUGETLBFS_MAGIC = 0x958458f6;
// statfs f_type of file systems that are nothing but page cache: a read of theirs never waits for a disk.
const memoryFileSystems: ReadonlySet<number> = new Set([TMPFS_MAGIC, RAMFS_MAGIC, HUGETLBFS_MAGIC]);

/** Opens close-on-exec; throws IoError. A file that is created is 0644 less the umask. */
export function openFile(path: string, flags: number): number {
  // A C string would end there, and name another file.
  if (path.includes('\0')) throw new IoError(errno.ENOENT, { syscall: 'open', path });
  const fd = libc.open(path, flags | O_CLOEXEC, 0o644);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'open', path });
  return fd;
}

export function closeFile(fd: number): void {
  libc.close(fd);
}

/**
 * The absolute name of what is at `path`, symbolic links followed. Asks no file system that is mounted right there, so that it
 * may be one that this process serves. Throws IoError.
 */
export function resolvedPath(path: string): string {
  const fd = openFile(path, O_PATH);
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch (error) {
    throw ioErrorFrom(error, 'readlink');
  } finally {
    closeFile(fd);
  }
}

/** Whether `path` leads to one of these files, told by their absolute names without symbolic links. */
export function isOneOf(path: string, files: ReadonlySet<string>): boolean {
  if (files.size === 0) return false;
  try {
    return files.has(resolvedPath(path));
  } catch {
    return false;
  }
}

/**
 * Whether something has been mounted at `path`, which `fd` is of: an export of this very file, perhaps. Asks no file system
 * that is mounted right there.
 */
export function isMountedOver(path: string, fd: number): boolean {
  let at: number;
  try {
    at = openFile(path, O_PATH);
  } catch {
    return false;
  }
  try {
    return mountOf(at) !== mountOf(fd);
  } finally {
    closeFile(at);
  }
}

/** A number that names the mount for as long as it exists; undefined where there is no /proc. */
function mountOf(fd: number): string | undefined {
  try {
    return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
  } catch {
    return undefined;
  }
}

/** What fstat(2) says. Throws IoError. */
export function fileStatus(fd: number): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    throw ioErrorFrom(error, 'fstat');
  }
}

/** True on tmpfs, ramfs and hugetlbfs. */
export function isInMemory(fd: number): boolean {
  return memoryFileSystems.has(fileSystemType(fd));
}

/** True on NFS, whose direct I/O takes any alignment. */
export function isOnNfs(fd: number): boolean {
  return fileSystemType(fd) === NFS_SUPER_MAGIC;
}

/** True on tmpfs, where memfds are, too. */
export function isOnTmpfs(fd: number): boolean {
  return fileSystemType(fd) === TMPFS_MAGIC;
}

/** True for huge pages. */
export function isOnHugetlbfs(fd: number): boolean {
  return fileSystemType(fd) === HUGETLBFS_MAGIC;
}

/** True for a file that another process serves. */
export function isOnFuse(fd: number): boolean {
  return fileSystemType(fd) === FUSE_SUPER_MAGIC;
}

function fileSystemType(fd: number): number {
  try {
    return statfsSync(`/proc/self/fd/${fd}`).type;
  } catch {
    return 0;
  }
}

/** Reads that must not wait: preadv2(RWF_NOWAIT), with the one iovec it needs. */
export class NowReader {
  // Above 64 bytes, a typed array is not kept on the V8 heap.
  readonly #vector = Buffer.alloc(128);
  readonly #view = new DataView(this.#vector.buffer, this.#vector.byteOffset, 16);
  readonly #address = addressOf(this.#vector);

  /** Bytes read, 0 at the end of the file, -EAGAIN when it would wait, -EOPNOTSUPP where the file system cannot tell. */
  read(fd: number, address: number, length: number, offset: number): number {
    const view = this.#view;
    view.setUint32(0, address % 0x1_0000_0000, true);
    view.setUint32(4, Math.floor(address / 0x1_0000_0000), true);
    view.setUint32(8, length, true);
    const result = libc.preadv2(fd, this.#address, 1, offset, RWF_NOWAIT);
    return result < 0 ? -errnoNow() : result;
  }
}

/**
 * Tells whether a range of a file is in the page cache: cachestat(2), of Linux 6.5, for the pages, and a read of the last
 * byte that must not wait, since a page that is still being read counts as cached.
 */
export class CacheProbe {
  // struct cachestat_range: [0] offset [8] length
  readonly #range = Buffer.alloc(128);
  readonly #rangeAddress = addressOf(this.#range);
  // struct cachestat, the first of five counters: [0] cached pages
  readonly #counters = Buffer.alloc(128);
  readonly #reader = new NowReader();
  readonly #byte = Buffer.alloc(128);
  readonly #byteAddress = addressOf(this.#byte);
  #works = true;

  /** False also where the kernel cannot tell. `length` is above 0. */
  covers(fd: number, offset: number, length: number): boolean {
    if (!this.#works) return false;
    putU64(this.#range, 0, offset);
    putU64(this.#range, 8, length);
    if (libc.syscall(SYS_cachestat, fd, this.#rangeAddress, this.#counters, 0) < 0) {
      this.#works = false;
      return false;
    }
    const pages = Math.ceil((offset + length) / PAGE_SIZE) - Math.floor(offset / PAGE_SIZE);
    if (this.#counters.readUInt32LE(0) < pages) return false;
    return this.#reader.read(fd, this.#byteAddress, 1, offset + length - 1) === 1;
  }
}

/** Little-endian, below 2^53. */
function putU64(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, at);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}

/** Bytes read, 0 at the end of the file, or a negative errno. */
export function preadNow(fd: number, address: number, length: number, offset: number): number {
  const result = libc.pread(fd, address, length, offset);
  return result < 0 ? -errnoNow() : result;
}

/** Bytes written, or a negative errno. */
export function pwriteNow(fd: number, address: number, length: number, offset: number): number {
  const result = libc.pwrite(fd, address, length, offset);
  return result < 0 ? -errnoNow() : result;
}

/** One range of memory and of a file. */
export interface Transfer {
  readonly fd: number;
  readonly bytes: Buffer;
  readonly at: number;
  readonly length: number;
  readonly offset: number;
}

/** Bytes read, 0 at the end of the file. Rejects IoError. */
export function preadLater(transfer: Transfer): Promise<number> {
  const { fd, bytes, at, length, offset } = transfer;
  return new Promise((fulfil, reject) => {
    read(fd, bytes, at, length, offset, (error, count) => {
      if (error) reject(ioErrorFrom(error, 'pread', offset));
      else fulfil(count);
    });
  });
}

/** Bytes written. Rejects IoError. */
export function pwriteLater(transfer: Transfer): Promise<number> {
  const { fd, bytes, at, length, offset } = transfer;
  return new Promise((fulfil, reject) => {
    write(fd, bytes, at, length, offset, (error, count) => {
      if (error) reject(ioErrorFrom(error, 'pwrite', offset));
      else fulfil(count);
    });
  });
}

/** Rejects IoError. */
export function fdatasyncLater(fd: number): Promise<void> {
  return new Promise((fulfil, reject) => {
    fdatasync(fd, (error) => {
      if (error) reject(ioErrorFrom(error, 'fdatasync'));
      else fulfil();
    });
  });
}

/** As fdatasync, with the times and other attributes. Rejects IoError. */
export function fsyncLater(fd: number): Promise<void> {
  return new Promise((fulfil, reject) => {
    fsync(fd, (error) => {
      if (error) reject(ioErrorFrom(error, 'fsync'));
      else fulfil();
    });
  });
}

/** Sets the length. Rejects IoError. */
export function ftruncateLater(fd: number, length: number): Promise<void> {
  return new Promise((fulfil, reject) => {
    ftruncate(fd, length, (error) => {
      if (error) reject(ioErrorFrom(error, 'ftruncate'));
      else fulfil();
    });
  });
}

/** 0 or a negative errno. */
export function fallocateLater(
  fd: number,
  mode: number,
  offset: number,
  length: number,
): Promise<number> {
  return callLater((done) => libc.fallocate.async(fd, mode, offset, length, done));
}

/** Has the kernel forget what it has cached of the file, as far as that is on disk. Rejects IoError. */
export async function dropCacheLater(fd: number): Promise<void> {
  const failed = await callLater((done) =>
    libc.posix_fadvise.async(fd, 0, 0, POSIX_FADV_DONTNEED, done),
  );
  // The one function that answers an errno as it is.
  if (failed !== 0) throw new IoError(failed, { syscall: 'posix_fadvise' });
}

/** Where the next data at or after `offset` start, or a negative errno: -ENXIO when only a hole follows. */
export function seekData(fd: number, offset: number): number {
  return seek(fd, offset, SEEK_DATA);
}

/** Where the next hole at or after `offset` starts; the end of the file is one. Or a negative errno. */
export function seekHole(fd: number, offset: number): number {
  return seek(fd, offset, SEEK_HOLE);
}

/** Length of a file or a block device in bytes, or a negative errno. */
export function fileLength(fd: number): number {
  return seek(fd, 0, SEEK_END);
}

function seek(fd: number, offset: number, whence: number): number {
  // Files longer than 2^53 exist (sparse, on XFS): such a result is a BigInt at run time, and too long for us.
  const result = Number(libc.lseek(fd, offset, whence));
  return result < 0 ? -errnoNow() : result;
}

/**
 * Locks or unlocks one byte for the open file description (F_OFD_SETLK). 0 or a negative errno: -EAGAIN when another
 * holder is in the way.
 */
export function lockByte(fd: number, at: number, kind: LockKind): number {
  for (;;) {
    if (libc.fcntlPointer(fd, F_OFD_SETLK, flock(at, kind)) === 0) return 0;
    const code = errnoNow();
    if (code !== errno.EINTR) return -code;
  }
}

/** Whether another holder would refuse this lock on one byte: 0 if not, -EAGAIN if so, or another negative errno. */
export function testLockByte(fd: number, at: number, kind: LockKind): number {
  const lock = flock(at, kind);
  if (libc.fcntlPointer(fd, F_OFD_GETLK, lock) < 0) return -errnoNow();
  return lock.readInt16LE(0) === F_UNLCK ? 0 : -errno.EAGAIN;
}

/** Reads `length` bytes at the start of the file to see whether the kernel takes this address and length. */
export function acceptsTransfer(fd: number, address: number, length: number): boolean {
  return libc.pread(fd, address, length, 0) >= 0 || errnoNow() !== errno.EINVAL;
}

// struct flock (64 bit): [0] type [2] whence [8] start [16] length [24] pid
function flock(at: number, kind: LockKind): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(kind, 0);
  lock.writeBigInt64LE(BigInt(at), 8);
  lock.writeBigInt64LE(1n, 16);
  return lock;
}

type Done = (error: Error | null | undefined, result: number) => void;

// koffi throws when too many calls are in flight, so the ones beyond wait here. Half of what it takes: getaddrinfo shares.
const MAX_IN_FLIGHT = MAX_ASYNC_CALLS / 2;
const waiting: (() => void)[] = [];
let inFlight = 0;

/** Runs a C call in the thread pool: its result, or a negative errno. EINTR is retried. */
export function callLater(call: (done: Done) => void): Promise<number> {
  return new Promise((fulfil, reject) => {
    function start(): void {
      inFlight++;
      call((error, result) => {
        // Before anything else: errno is that of the call only now.
        const code = result < 0 ? errnoNow() : 0;
        inFlight--;
        if (code === errno.EINTR) waiting.unshift(start);
        else if (error) reject(error);
        else fulfil(code === 0 ? result : -code);
        waiting.shift()?.();
      });
    }
    if (inFlight < MAX_IN_FLIGHT) start();
    else waiting.push(start);
  });
}

function ioErrorFrom(error: unknown, syscall: string, offset?: number): IoError {
  const code = (error as NodeJS.ErrnoException).errno;
  if (code === undefined) throw error;
  return new IoError(-code, offset === undefined ? { syscall } : { syscall, offset });
}
