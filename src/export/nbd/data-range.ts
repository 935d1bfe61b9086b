// What an export last learnt to be data, so that not every sparse read has to ask for holes. To take a hole for data is harmless
// (its zeroes are sent), but a hole that a client made must show at once.

import type { BlockStatus } from '../../block/block-driver.ts';
import { BLOCK_ZERO } from '../../block/block-driver.ts';

export class DataRange {
  #start = 0;
  #end = 0;
  #forgotten = 0;

  /** When a status is asked for: what learn() has to know of that time. */
  get now(): number {
    return this.#forgotten;
  }

  covers(offset: number, length: number): boolean {
    return offset >= this.#start && offset + length <= this.#end;
  }

  /** Notes what a status says of the range from `offset` on, unless it was asked for before the last forget(). */
  learn(offset: number, status: BlockStatus, askedAt: number): void {
    if ((status.status & BLOCK_ZERO) !== 0 || askedAt !== this.#forgotten) return;
    this.#start = offset;
    this.#end = offset + status.length;
  }

  forget(): void {
    this.#end = 0;
    this.#forgotten++;
  }
}
