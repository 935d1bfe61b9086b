// What an export has learnt to be data, so that not every sparse read has to ask for holes. To take a hole for data is harmless
// (its zeroes are sent), but a hole that a client made must show at once.

import type { BlockStatus } from '../../block/block-driver.ts';
import { BLOCK_ZERO } from '../../block/block-driver.ts';

/** Ranges that are known at once: 16 KiB, and enough for a disk whose data are in many pieces. */
const MAX_RANGES = 1024;

export class DataRanges {
  /** Where ranges begin and end, in order; none touches another. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  #forgotten = 0;

  /** When a status is asked for: what learn() has to know of that time. */
  get now(): number {
    return this.#forgotten;
  }

  covers(offset: number, length: number): boolean {
    const end = this.#ends[countUpTo(this.#starts, offset) - 1];
    return end !== undefined && offset + length <= end;
  }

  /** Notes what a status says of the range from `offset` on, unless it was asked for before the last forget(). */
  learn(offset: number, status: BlockStatus, askedAt: number): void {
    if ((status.status & BLOCK_ZERO) !== 0 || askedAt !== this.#forgotten) return;
    const end = offset + status.length;
    if (this.#starts.length === MAX_RANGES) this.#clear();
    // Those that it touches become one with it.
    const from = countUpTo(this.#ends, offset - 1);
    const count = countUpTo(this.#starts, end) - from;
    const first = count === 0 ? offset : (this.#starts[from] as number);
    const last = count === 0 ? end : (this.#ends[from + count - 1] as number);
    this.#starts.splice(from, count, Math.min(first, offset));
    this.#ends.splice(from, count, Math.max(last, end));
  }

  forget(): void {
    this.#clear();
    this.#forgotten++;
  }

  #clear(): void {
    this.#starts.length = 0;
    this.#ends.length = 0;
  }
}

/** How many of the values, which are in order, are not above `limit`. */
function countUpTo(values: readonly number[], limit: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
