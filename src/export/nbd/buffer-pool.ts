// Memory for connections, shared by all of one server: requests are served one after another in one thread, so most of the
// time all connections take turns with the same few buffers, which stay in the processor's cache, and an idle connection
// holds none.

import type { IoBuffer } from '../../base/io-buffer.ts';
import { NBD_MAX_BUFFER_SIZE } from '../../net/nbd/protocol.ts';

/** Room beside the data of one request: its header, and what aligns the data to a page. */
const SLACK = 8192;

/** The usual size of a buffer. */
export const BATCH_SIZE = 256 * 1024 + SLACK;

/** The largest buffer there is. */
export const LARGEST_SIZE = NBD_MAX_BUFFER_SIZE + SLACK;

/**
 * Sizes of buffers, in bytes; the first serves small requests in batches, the last the largest request there is. The powers of
 * two that clients like to ask for fit without waste.
 */
const sizes: readonly number[] = Array.from(
  { length: Math.log2((LARGEST_SIZE - SLACK) / (BATCH_SIZE - SLACK)) + 1 },
  (_, index) => (BATCH_SIZE - SLACK) * 2 ** index + SLACK,
);

/** Bytes of free buffers that a pool keeps while it is busy; beyond that they go back to the kernel at once. */
const KEPT_BYTES = 64 * 1024 * 1024;

/** Milliseconds after which the pages of free buffers go back to the kernel. */
const IDLE_TIME = 1000;

/** Bytes of the buffer that the data of a request of this length occupy. */
export function footprint(dataLength: number): number {
  return sizes.find((size) => size - SLACK >= dataLength) ?? LARGEST_SIZE;
}

export interface BufferPoolOptions {
  /** Page-aligned, zeroed on demand (sys/memory.ts). */
  readonly allocate: (length: number) => IoBuffer;
  /** Gives a buffer's pages back to the kernel; it stays usable. */
  readonly release: (buffer: IoBuffer) => void;
}

export class BufferPool {
  readonly #options: BufferPoolOptions;
  readonly #free: readonly IoBuffer[][] = sizes.map(() => []);
  #keptBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BufferPoolOptions) {
    this.#options = options;
  }

  /** A buffer of at least `length` bytes (at most a request of the largest size), its content arbitrary. */
  take(length: number): IoBuffer {
    for (let index = 0; index < sizes.length; index++) {
      const size = sizes[index] as number;
      if (length > size) continue;
      const buffer = this.#free[index]?.pop();
      if (buffer === undefined) return this.#options.allocate(size);
      this.#keptBytes -= size;
      return buffer;
    }
    throw new RangeError(`No buffer of ${length} bytes`);
  }

  /** Takes a buffer back. Nobody may refer to it any more. */
  give(buffer: IoBuffer): void {
    const size = buffer.bytes.length;
    const list = this.#free[sizes.indexOf(size)];
    if (list === undefined || this.#keptBytes + size > KEPT_BYTES) {
      this.#options.release(buffer);
      return;
    }
    list.push(buffer);
    this.#keptBytes += size;
    if (this.#timer === undefined) {
      this.#timer = setTimeout(() => this.trim(), IDLE_TIME);
      this.#timer.unref();
    }
  }

  /** Gives the memory of all free buffers back. */
  trim(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const list of this.#free) {
      for (const buffer of list) this.#options.release(buffer);
      list.length = 0;
    }
    this.#keptBytes = 0;
  }
}
