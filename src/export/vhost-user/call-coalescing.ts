// When to tell a driver what was done (interrupt coalescing). A call costs the guest about as much as to ask for something small;
// but a driver that has nothing more to ask before it hears of what it has asked must not be kept waiting. So it is learnt for
// how many requests a call is worth being put off: twice as many as long as it pays, half as many when it does not.

import { availableParallelism } from 'node:os';
import { WOULD_BLOCK } from '../../net/byte-channel.ts';
import { lookFor } from '../adaptive-poll.ts';

/** A call is put off for 1, 2, 4 or 8 requests: with more, the driver would be idle while it waits for the call. */
const LEVELS = 4;
/** The next request is waited for as long as so many others have taken to come, but within these limits in milliseconds. */
const PATIENCE = 4;
const SHORTEST = 0.01;
const LONGEST = 0.1;
/** How much a new gap between two requests counts in what is known of them. */
const WEIGHT = 1 / 8;
/** Calls saved are put aside for when it does not pay, up to so many; a try at more requests is over with one wait in vain. */
const MOST_SAVED = 32;
const FIRST_SAVED = PATIENCE - 1;
/** Calls that go by, at most, before the next try. */
const MOST_SKIPPED = 1023;

export class CallCoalescing {
  /** A call is put off for 2 ** level requests. */
  #level = 0;
  /** Milliseconds from one request to the next. */
  #gap = LONGEST;
  /** Calls saved; each wait in vain uses up as many as would have taken that long. */
  #saved = 0;
  /** Calls to go by before the next try. */
  #skip = 0;
  /** For each level, how many will go by after the next try of it in vain. */
  readonly #penalties = new Array<number>(LEVELS).fill(0);
  readonly #useful: boolean;

  constructor({ processors = availableParallelism() } = {}) {
    // With one processor the driver could do nothing while it is waited for.
    this.#useful = processors > 1;
  }

  /**
   * Whether to go on before the driver is told of the `done` requests, one at least: `look` has found a further one. It answers
   * WOULD_BLOCK when there is none. Throws what `look` throws.
   */
  goOn(done: number, look: () => number): boolean {
    if (!this.#useful) return false;
    if (done >= 1 << this.#level) {
      this.#save(done - 1);
      if (this.#skip > 0) this.#skip--;
      else if (this.#level < LEVELS - 1) this.#grow();
      return false;
    }
    const start = performance.now();
    if (
      lookFor(Math.max(SHORTEST, Math.min(LONGEST, this.#gap * PATIENCE)), look) !== WOULD_BLOCK
    ) {
      this.#gap += (performance.now() - start - this.#gap) * WEIGHT;
      return true;
    }
    this.#save(done - 1 - PATIENCE);
    if (this.#saved < 0) this.#shrink();
    return false;
  }

  #save(calls: number): void {
    this.#saved = Math.min(this.#saved + calls, MOST_SAVED);
    if (this.#saved === MOST_SAVED) this.#penalties.fill(0, 0, this.#level + 1);
  }

  #grow(): void {
    if (this.#level === 0) this.#gap = LONGEST;
    this.#level++;
    this.#saved = FIRST_SAVED;
  }

  #shrink(): void {
    const penalty = this.#penalties[this.#level] ?? 0;
    this.#skip = penalty * 2 + 1;
    this.#penalties[this.#level] = Math.min(this.#skip, MOST_SKIPPED >> 1);
    this.#level--;
    this.#saved = FIRST_SAVED;
  }
}
