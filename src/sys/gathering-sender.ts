// Bytes from several places sent with one system call.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { WOULD_BLOCK } from './socket.ts';
import { setPointer } from './structs.ts';

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Places that one call sends from. */
export const MAX_PARTS = 64;

// struct msghdr: [0] name [8] namelen [16] iov [24] iovlen [32] control [40] controllen [48] flags
// struct iovec from 64 on, each: [0] address [8] length
const VECTOR = 64;
const VECTOR_SIZE = 16;

/** Sends on any socket, with the memory that this needs. */
export class GatheringSender {
  readonly #bytes = Buffer.alloc(VECTOR + MAX_PARTS * VECTOR_SIZE);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  readonly #address = addressOf(this.#bytes);
  #count = 0;

  constructor() {
    setPointer(this.#view, 16, this.#address + VECTOR);
  }

  /** Adds a place; at most MAX_PARTS of them. */
  add(address: number, length: number): void {
    const at = VECTOR + this.#count * VECTOR_SIZE;
    setPointer(this.#view, at, address);
    setPointer(this.#view, at + 8, length);
    this.#count++;
  }

  /** Sends from the places that were added, and forgets them: how many bytes were taken, or WOULD_BLOCK. Raises no SIGPIPE. */
  send(fd: number): number {
    setPointer(this.#view, 24, this.#count);
    this.#count = 0;
    for (;;) {
      const sent = libc.sendmsg(fd, this.#address, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return sent;
      const code = errnoNow();
      if (code === errno.EAGAIN) return WOULD_BLOCK;
      if (code !== errno.EINTR) throw new IoError(code, { syscall: 'sendmsg' });
    }
  }
}
