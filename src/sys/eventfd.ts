// Event counters (eventfd(2)) that another process may hold as well: to take from one may never wait, whatever that process has
// made of the descriptor. Adding to them is event-signal.ts's.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { setStatusFlags, statusFlags } from './descriptor.ts';
import { O_NONBLOCK } from './file.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { close, WOULD_BLOCK } from './socket.ts';

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const RWF_NOWAIT = 8;
/** The offset of preadv2() that stands for "where the file is". */
const HERE = -1;
/** Bytes of a counter on the wire. */
const COUNTER = 8;

/** A new counter, at zero. Throws IoError. */
export function createEventFd(): number {
  const fd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'eventfd' });
  return fd;
}

/** Makes a descriptor that came from elsewhere one whose calls do not wait. Throws IoError. */
export function makeNonBlocking(fd: number): void {
  setStatusFlags(fd, statusFlags(fd) | O_NONBLOCK);
}

/** Takes from counters, with the memory that this needs. */
export class EventCounter {
  // [0] the counter taken [8] an iovec of it; above 64 bytes it is not on the V8 heap.
  readonly #bytes = Buffer.alloc(128);
  readonly #address = addressOf(this.#bytes);
  #canReadNow = true;

  constructor() {
    this.#bytes.writeBigUInt64LE(BigInt(this.#address), 8);
    this.#bytes.writeBigUInt64LE(BigInt(COUNTER), 16);
  }

  /**
   * Sets the counter to zero: true if it was more. Throws IoError, EPIPE for the end of what is no counter, EINVAL for what is
   * none and could wait.
   */
  take(fd: number): boolean {
    const count = this.#read(fd);
    if (count === 0) throw new IoError(errno.EPIPE, { syscall: 'read' });
    return count !== WOULD_BLOCK;
  }

  #read(fd: number): number {
    for (;;) {
      // Another holder may empty the counter first and have made the descriptor one that waits.
      const count = this.#canReadNow
        ? libc.preadv2(fd, this.#address + 8, 1, HERE, RWF_NOWAIT)
        : libc.read(fd, this.#address, COUNTER);
      if (count >= 0) return count;
      const code = errnoNow();
      if (code === errno.EAGAIN) return WOULD_BLOCK;
      if (code === errno.ENOTSUP && this.#canReadNow) this.#readOtherwise();
      else if (code !== errno.EINTR) throw new IoError(code, { syscall: 'read' });
    }
  }

  /** An old kernel, or no counter? Throws IoError. */
  #readOtherwise(): void {
    const own = createEventFd();
    libc.preadv2(own, this.#address + 8, 1, HERE, RWF_NOWAIT);
    const code = errnoNow();
    close(own);
    if (code !== errno.ENOTSUP) throw new IoError(errno.EINVAL, { syscall: 'read' });
    this.#canReadNow = false;
  }
}
