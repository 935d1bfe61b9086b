// Memory that another process has, too, as a mapped file. That process may do anything to it at any time: change it, which
// the reader has to expect, or cut the file short, after which touching a page kills this program (SIGBUS). Only the kernel
// can rule the latter out (a memfd sealed against shrinking); all other memory is copied by the kernel, for which a page that
// is gone is an error like any other.
//
// Order of reads and writes: what both sides look at is read and written with Atomics over a view, which order everything
// before and after them. Copies by the kernel are ordered among each other, and where that is said, their parts are (GuardedCopy).

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { fileStatus, isOnFuse, isOnHugetlbfs, isOnTmpfs } from './file.ts';
import { addressOf, errnoNow, libc, viewOf } from './libc.ts';
import { setPointer } from './structs.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED_NORESERVE = 0x4001;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const PAGE = 4096;
/** Of one process_vm_readv(), as the kernel lets it. */
const MAX_COPY = 0x7fff_f000;

/**
 * Whether a machine by itself keeps the order in which one system call copies: x86 does, with reads, and with writes as far as
 * they are separate instructions, and each such call has one that orders everything. Others (arm64) may do what is left to them
 * in any order.
 */
const KEEPS_ORDER = process.arch === 'x64';

/** Bytes that GuardedCopy copies in the cheaper way, at most. */
export const WINDOW = 64 * 1024;

/** A part of a file in memory. */
export interface SharedMapping {
  /** Where its first byte is. */
  readonly address: number;
  readonly length: number;
  /** The file can never become shorter, so its memory may be touched. */
  readonly lasting: boolean;
}

interface Mapped extends SharedMapping {
  readonly start: number;
  readonly mapped: number;
}

/**
 * Maps `length` bytes at `offset` of the file to read and write; the descriptor is not needed any more then. Throws IoError:
 * EINVAL for what lies outside the file or is served by another process, which could let this one wait for ever.
 */
export function mapShared(fd: number, offset: number, length: number): SharedMapping {
  if (!(length > 0) || !Number.isSafeInteger(offset + length) || isOnFuse(fd)) {
    throw new IoError(errno.EINVAL, { syscall: 'mmap', offset });
  }
  // A file that only this machine's memory is behind: no page of it can be missing for another reason than its length. Asked
  // before the length, which stays what it is then.
  const lasting = isOnTmpfs(fd) && (sealsOf(fd) & F_SEAL_SHRINK) !== 0;
  const status = fileStatus(fd);
  if (status.isFile() && status.size < offset + length) {
    throw new IoError(errno.EINVAL, { syscall: 'mmap', offset });
  }
  const page = isOnHugetlbfs(fd) ? status.blksize : PAGE;
  const before = offset % page;
  const mapped = Math.ceil((before + length) / page) * page;
  const start = libc.mmap(0, mapped, PROT_READ_WRITE, MAP_SHARED_NORESERVE, fd, offset - before);
  if (start === -1) throw new IoError(errnoNow(), { syscall: 'mmap', offset });
  const mapping: Mapped = { address: start + before, length, lasting, start, mapped };
  return mapping;
}

/** Ends a mapping of mapShared(). Nobody may touch its memory, or a view of it, any more. */
export function unmapShared(mapping: SharedMapping): void {
  const { start, mapped } = mapping as Mapped;
  libc.munmap(start, mapped);
}

/** A file of `length` zero bytes that lives in memory and keeps its length. Throws IoError. */
export function createSharedFile(name: string, length: number): number {
  const fd = libc.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'memfd_create' });
  const sized =
    libc.ftruncate(fd, length) === 0 &&
    libc.fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) === 0;
  if (sized) return fd;
  const code = errnoNow();
  libc.close(fd);
  throw new IoError(code, { syscall: 'ftruncate' });
}

/** The bytes at an address, to be looked at directly. Only of a mapping that is `lasting`, and not after its end. */
export function viewOfShared(address: number, length: number): ArrayBuffer {
  return viewOf(address, length);
}

/** Copies between memory that may be touched. */
export function copyMemory(to: number, from: number, length: number): void {
  libc.memcpy(to, from, length);
}

/**
 * Copies from and to memory that may be gone, by way of the kernel, which answers with an error where a look of our own would
 * be the end. Small pieces go through a file of our own that is mapped, too: half the price of process_vm_readv().
 */
export class GuardedCopy {
  // Two iovecs, and two more for process_vm_readv(); above 64 bytes it is not on the V8 heap.
  readonly #bytes = Buffer.alloc(128);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  readonly #address = addressOf(this.#bytes);
  readonly #fence = new Int32Array(new SharedArrayBuffer(4));
  readonly #pid = process.pid;
  /** The parts of one copy are read and written in their order, too. Copies are among each other in any case. */
  readonly keepsOrder: boolean;
  readonly #fd: number;
  readonly #window: SharedMapping;

  /** Throws IoError. `keepsOrder` is for tests. */
  constructor({ keepsOrder = KEEPS_ORDER }: { readonly keepsOrder?: boolean } = {}) {
    this.keepsOrder = keepsOrder;
    this.#fd = createSharedFile('window', WINDOW);
    try {
      this.#window = mapShared(this.#fd, 0, WINDOW);
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
  }

  /** Copies to our memory from theirs. Throws IoError, EFAULT when it is gone. */
  from(theirs: number, ours: number, length: number): void {
    this.#order();
    if (length > WINDOW) {
      this.#large(libc.process_vm_readv, theirs, ours, length);
      return;
    }
    this.#vector(0, theirs, length);
    this.#check(libc.pwritev(this.#fd, this.#address, 1, 0), length);
    libc.memcpy(ours, this.#window.address, length);
  }

  /** Copies to their memory from ours. Throws IoError, EFAULT when it is gone. */
  to(theirs: number, ours: number, length: number): void {
    this.#order();
    if (length > WINDOW) {
      this.#large(libc.process_vm_writev, theirs, ours, length);
      return;
    }
    libc.memcpy(this.#window.address, ours, length);
    this.#vector(0, theirs, length);
    this.#check(libc.preadv2(this.#fd, this.#address, 1, 0, 0), length);
  }

  /** Copies to our memory from two places of theirs, in that order. At most WINDOW bytes. Throws IoError. */
  fromTwo(first: number, firstLength: number, second: number, length: number, ours: number): void {
    if (!this.keepsOrder) {
      this.from(first, ours, firstLength);
      this.from(second, ours + firstLength, length);
      return;
    }
    this.#vector(0, first, firstLength);
    this.#vector(16, second, length);
    this.#check(libc.pwritev(this.#fd, this.#address, 2, 0), firstLength + length);
    libc.memcpy(ours, this.#window.address, firstLength + length);
  }

  /** Copies to two places of their memory, in that order, from ours. At most WINDOW bytes. Throws IoError. */
  toTwo(first: number, firstLength: number, second: number, length: number, ours: number): void {
    if (!this.keepsOrder) {
      this.to(first, ours, firstLength);
      this.to(second, ours + firstLength, length);
      return;
    }
    libc.memcpy(this.#window.address, ours, firstLength + length);
    this.#vector(0, first, firstLength);
    this.#vector(16, second, length);
    this.#check(libc.preadv2(this.#fd, this.#address, 2, 0, 0), firstLength + length);
  }

  /** Nothing can be copied any more. */
  close(): void {
    unmapShared(this.#window);
    libc.close(this.#fd);
  }

  /** Everything before it has happened before everything behind it, copies by the kernel included. */
  #order(): void {
    if (this.keepsOrder) return;
    // A store holds back what comes before it, a load what comes behind it, and the machine keeps these two in their order.
    Atomics.store(this.#fence, 0, 0);
    Atomics.load(this.#fence, 0);
  }

  #large(copy: typeof libc.process_vm_readv, theirs: number, ours: number, length: number): void {
    for (let done = 0; done < length; ) {
      const piece = Math.min(length - done, MAX_COPY);
      this.#vector(32, ours + done, piece);
      this.#vector(48, theirs + done, piece);
      this.#check(copy(this.#pid, this.#address + 32, 1, this.#address + 48, 1, 0), piece);
      done += piece;
    }
  }

  #vector(at: number, address: number, length: number): void {
    setPointer(this.#view, at, address);
    setPointer(this.#view, at + 8, length);
  }

  #check(copied: number, expected: number): void {
    if (copied === expected) return;
    throw new IoError(copied < 0 ? errnoNow() : errno.EFAULT, { syscall: 'copy' });
  }
}

function sealsOf(fd: number): number {
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  return seals < 0 ? 0 : seals;
}
