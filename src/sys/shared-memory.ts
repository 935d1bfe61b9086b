// Memory that another process has, too, as a mapped file. That process may do anything to it at any time: change it, which
// the reader has to expect, or cut the file short, after which touching a page kills this program (SIGBUS). Only the kernel
// can rule the latter out (a memfd sealed against shrinking); all other memory is copied by the kernel (process_vm_readv),
// for which a page that is gone is an error like any other.
//
// Order of reads and writes: what both sides look at is read and written with Atomics over a view, which order everything
// before and after them; a copy by the kernel passes a lock of the process's memory map, which does the same.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { fileStatus, isOnFuse, isOnHugetlbfs, isOnTmpfs } from './file.ts';
import { addressOf, errnoNow, libc, viewOf } from './libc.ts';

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
  const status = fileStatus(fd);
  if (status.isFile() && status.size < offset + length) {
    throw new IoError(errno.EINVAL, { syscall: 'mmap', offset });
  }
  const page = isOnHugetlbfs(fd) ? status.blksize : PAGE;
  const before = offset % page;
  const mapped = Math.ceil((before + length) / page) * page;
  const start = libc.mmap(0, mapped, PROT_READ_WRITE, MAP_SHARED_NORESERVE, fd, offset - before);
  if (start === -1) throw new IoError(errnoNow(), { syscall: 'mmap', offset });
  // A file that only this machine's memory is behind: no page of it can be missing for another reason than its length.
  const lasting = isOnTmpfs(fd) && (sealsOf(fd) & F_SEAL_SHRINK) !== 0;
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

/** Copies from or to memory that may be gone, by way of the kernel, with the memory that this needs. */
export class GuardedCopy {
  // Two iovecs: [0] ours [16] theirs; above 64 bytes it is not on the V8 heap.
  readonly #bytes = Buffer.alloc(128);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, 32);
  readonly #address = addressOf(this.#bytes);
  readonly #pid = process.pid;

  /** Copies to our memory from theirs. Throws IoError, EFAULT when it is gone. */
  from(theirs: number, ours: number, length: number): void {
    for (let done = 0; done < length; ) {
      const piece = Math.min(length - done, MAX_COPY);
      this.#prepare(ours + done, theirs + done, piece);
      const copied = libc.process_vm_readv(this.#pid, this.#address, 1, this.#address + 16, 1, 0);
      if (copied !== piece) throw gone(copied);
      done += piece;
    }
  }

  /** Copies to their memory from ours. Throws IoError, EFAULT when it is gone. */
  to(theirs: number, ours: number, length: number): void {
    for (let done = 0; done < length; ) {
      const piece = Math.min(length - done, MAX_COPY);
      this.#prepare(ours + done, theirs + done, piece);
      const copied = libc.process_vm_writev(this.#pid, this.#address, 1, this.#address + 16, 1, 0);
      if (copied !== piece) throw gone(copied);
      done += piece;
    }
  }

  #prepare(ours: number, theirs: number, length: number): void {
    setPointer(this.#view, 0, ours);
    setPointer(this.#view, 8, length);
    setPointer(this.#view, 16, theirs);
    setPointer(this.#view, 24, length);
  }
}

function gone(copied: number): IoError {
  return new IoError(copied < 0 ? errnoNow() : errno.EFAULT, { syscall: 'process_vm_readv' });
}

function sealsOf(fd: number): number {
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  return seals < 0 ? 0 : seals;
}

function setPointer(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
