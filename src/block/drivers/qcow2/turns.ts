// Work that goes on for as long as an image says: what is cached by the kernel is there at once, and nobody else would have a turn.

import type { MaybePromise } from '../../../base/io-buffer.ts';

/** Lets others go on from time to time. */
export class Turns {
  readonly #most: number;
  #done = 0;

  /** `most`: bytes worked off in one turn. */
  constructor(most: number) {
    this.#most = most;
  }

  /** So many more bytes are worked off. */
  after(bytes: number): MaybePromise<void> {
    this.#done += bytes;
    if (this.#done < this.#most) return undefined;
    this.#done = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }
}
