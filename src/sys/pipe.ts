// Pipes that data pass through on their way from one socket to another, by splice(2): the pages change hands, nobody copies them.

import type { DataPipe } from '../base/data-pipe.ts';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { readDescriptor } from './descriptor.ts';
import { O_NONBLOCK } from './file.ts';
import { errnoNow, libc } from './libc.ts';
import { close, WOULD_BLOCK } from './socket.ts';

const O_CLOEXEC = 0o2000000;
const F_SETPIPE_SZ = 1031;
const SPLICE_F_NONBLOCK = 2;

export class KernelPipe implements DataPipe {
  length = 0;
  readonly #output: number;
  readonly #input: number;
  readonly #onRelease: (pipe: KernelPipe) => void;

  /**
   * `capacity`: bytes, if they are in whole pages; a power of two. Throws IoError: EPERM when the user may not have one that
   * large.
   */
  constructor(capacity: number, onRelease: (pipe: KernelPipe) => void) {
    this.#onRelease = onRelease;
    const pair = Buffer.alloc(8);
    if (libc.pipe2(pair, O_NONBLOCK | O_CLOEXEC) < 0) throw failed('pipe2');
    this.#output = pair.readInt32LE(0);
    this.#input = pair.readInt32LE(4);
    if (libc.fcntl(this.#input, F_SETPIPE_SZ, capacity) < 0) {
      const error = failed('fcntl');
      this.close();
      throw error;
    }
  }

  fill(fd: number, max: number): number {
    const moved = splice(fd, this.#input, max);
    if (moved < 0) return WOULD_BLOCK;
    this.length += moved;
    return moved;
  }

  drain(fd: number): number {
    const moved = splice(this.#output, fd, this.length);
    if (moved >= 0) {
      this.length -= moved;
      return moved;
    }
    if (moved === -errno.EAGAIN) return WOULD_BLOCK;
    throw new IoError(-moved, { syscall: 'splice' });
  }

  put(from: IoBuffer, at: number, length: number): boolean {
    const count = libc.write(this.#input, from.address + at, length);
    if (count > 0) this.length += count;
    return count === length;
  }

  empty(into: IoBuffer, at: number): void {
    for (let place = at; this.length > 0; ) {
      const count = readDescriptor(this.#output, into.address + place, this.length);
      // They are there, and nobody else takes them.
      if (count <= 0) throw new IoError(errno.EIO, { syscall: 'read' });
      place += count;
      this.length -= count;
    }
  }

  release(): void {
    this.#onRelease(this);
  }

  /** For good; what is in it is lost. */
  close(): void {
    close(this.#input);
    close(this.#output);
  }
}

/** Bytes moved, or a negative errno. */
function splice(from: number, to: number, length: number): number {
  for (;;) {
    const moved = libc.splice(from, 0, to, 0, length, SPLICE_F_NONBLOCK);
    if (moved >= 0) return moved;
    const code = errnoNow();
    if (code !== errno.EINTR) return -code;
  }
}

function failed(syscall: string): IoError {
  return new IoError(errnoNow(), { syscall });
}
