// Requests to open files that the kernel carries out beside this thread, as sys/io-uring.ts has them done.

import { errno } from './errno.ts';
import { IoError } from './errors.ts';
import type { IoBuffer } from './io-buffer.ts';

/** A range of memory and of a file. The memory is the request's until it has ended. */
export interface RingTransfer {
  readonly fd: number;
  readonly buffer: IoBuffer;
  readonly at: number;
  readonly length: number;
  readonly offset: number;
  /** Not even begun in this thread: it would copy there what is in the page cache, or goes there. */
  readonly aside: boolean;
}

/** Told once what became of a request. Never before the function that took it has returned. Must not throw. */
export type RingDone = (result: number) => void;

export interface RequestRing {
  /** `done` is told how many bytes were read, 0 at the end of the file, or a negative errno. */
  read(transfer: RingTransfer, done: RingDone): void;
  /** `done` is told how many bytes were written, or a negative errno. */
  write(transfer: RingTransfer, done: RingDone): void;
  /** `done` is told 0 or a negative errno. */
  fdatasync(fd: number, done: RingDone): void;
}

/** A ring that is shared by who asks for it. Throws IoError: EPERM, ENOSYS and more where the kernel has none for us. */
export type RingSource = () => RequestRing;

/** Where there is no ring. */
export function noRing(): never {
  throw new IoError(errno.ENOSYS, { syscall: 'io_uring_setup' });
}
