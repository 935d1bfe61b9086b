// Memory shared with another process by descriptor: memfds, and mappings of what another process handed over.
// Touching a page of a mapping beyond the end of its file is a SIGBUS, which ends the program; system calls given such an
// address fail with EFAULT instead. A peer may cut its file at any time, unless it is sealed against that.

import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { errnoNow, libc, viewOf } from './libc.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** A mapping. Neither `bytes` nor a view of it may be touched after unmap(). */
export interface SharedMemory extends IoBuffer {
  /** Idempotent. */
  unmap(): void;
}

/** The descriptor of `length` bytes of zeroes that live in memory; close-on-exec, may be sealed. Throws IoError. */
export function createMemfd(name: string, length: number): number {
  const fd = libc.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'memfd_create' });
  if (libc.ftruncate(fd, length) < 0) {
    const code = errnoNow();
    libc.close(fd);
    throw new IoError(code, { syscall: 'ftruncate' });
  }
  return fd;
}

/**
 * Maps `length` bytes at `offset` (a multiple of the page size) of a descriptor, shared, to be read and written. The
 * descriptor may be closed afterwards. Throws IoError.
 */
export function mapShared(fd: number, offset: number, length: number): SharedMemory {
  const address = libc.mmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd, offset);
  if (address === -1) throw new IoError(errnoNow(), { syscall: 'mmap' });
  const memory = viewOf(address, length);
  let mapped = true;
  return {
    bytes: Buffer.from(memory),
    view: new DataView(memory),
    address,
    unmap: () => {
      if (!mapped) return;
      mapped = false;
      libc.munmap(address, length);
    },
  };
}
