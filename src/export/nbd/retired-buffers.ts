// Buffers that a connection has gone on without while parts of them are still in use.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { BufferPool } from './buffer-pool.ts';

export class RetiredBuffers {
  /** How many uses each has left. */
  readonly #uses = new Map<IoBuffer, number>();
  readonly #pool: BufferPool;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Keeps a buffer for `uses` calls of release(), at least one. */
  retire(buffer: IoBuffer, uses: number): void {
    this.#uses.set(buffer, uses);
  }

  /** A use has ended; with the last one the buffer goes back to the pool. */
  release(buffer: IoBuffer): void {
    const left = (this.#uses.get(buffer) ?? 1) - 1;
    if (left > 0) {
      this.#uses.set(buffer, left);
      return;
    }
    this.#uses.delete(buffer);
    this.#pool.give(buffer);
  }
}
