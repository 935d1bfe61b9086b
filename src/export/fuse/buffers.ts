// Memory for requests and replies, shared by all FUSE exports: requests are served one after another in one thread, so mostly
// the same buffer serves all of them, and an idle export holds none.

import type { IoBuffer } from '../../base/io-buffer.ts';
import { allocate, release } from '../../sys/memory.ts';
import { DATA_AT } from './operations.ts';
import { MAX_TRANSFER } from './protocol.ts';

/** Room for the largest request. The kernel sends none to who offers less. */
const BUFFER_SIZE = DATA_AT + MAX_TRANSFER;

/** Free buffers that are kept; the memory of more goes back to the kernel at once. */
const KEPT = 16;

/** Milliseconds after which the memory of free buffers goes back to the kernel. */
const IDLE_TIME = 1000;

export class TransferBuffers {
  readonly #free: IoBuffer[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** A buffer, its content arbitrary. */
  take(): IoBuffer {
    return this.#free.pop() ?? allocate(BUFFER_SIZE);
  }

  /** Takes a buffer back. Nobody may refer to it any more. */
  give(buffer: IoBuffer): void {
    if (this.#free.length >= KEPT) {
      release(buffer);
      return;
    }
    this.#free.push(buffer);
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.trim(), IDLE_TIME);
    this.#timer.unref();
  }

  /** Gives the memory of all free buffers back. */
  trim(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const buffer of this.#free) release(buffer);
  }
}
