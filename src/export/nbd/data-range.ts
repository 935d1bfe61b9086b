// What an export last learnt to be data, so that not every sparse read has to ask for holes. To take a hole for data is harmless
// (its zeroes are sent), but a hole that a client made must show at once.

import type { BlockStatus } from '../../block/block-driver.ts';
import { BLOCK_ZERO } from '../../block/block-driver.ts';

export class DataRange {
  #start = 0;
  #end = 0;

  covers(offset: number, length: number): boolean {
    return offset >= this.#start && offset + length <= this.#end;
  }

  /** Notes what a status says of the range from `offset` on. It must not be older than the last forget(). */
  learn(offset: number, status: BlockStatus): void {
    if ((status.status & BLOCK_ZERO) !== 0) return;
    this.#start = offset;
    this.#end = offset + status.length;
  }

  forget(): void {
    this.#end = 0;
  }
}
