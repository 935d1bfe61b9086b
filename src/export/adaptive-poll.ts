// Waiting for a peer's next bytes without going to sleep. A peer that asks for one thing after the other answers within some
// tens of microseconds, and to be woken for that costs as long again; so the server looks again for a moment before it goes
// back to the event loop. What an iothread of the reference does with poll-max-ns, for the same reason.

import { availableParallelism } from 'node:os';
import { WOULD_BLOCK } from '../net/byte-channel.ts';

/** Milliseconds that are spent at most before the event loop has its turn. */
const LONGEST = 0.1;

/** Looks in vain in a row after which only every so many-th chance is taken. */
const MOST_SKIPPED = 1023;

/** Looks between two looks at the clock. */
const LOOKS_PER_CHECK = 4;

/** Calls `attempt` until it answers anything but WOULD_BLOCK, or so many milliseconds are over. Throws what `attempt` throws. */
export function lookFor(milliseconds: number, attempt: () => number): number {
  const until = performance.now() + milliseconds;
  do {
    for (let look = 0; look < LOOKS_PER_CHECK; look++) {
      const result = attempt();
      if (result !== WOULD_BLOCK) return result;
    }
  } while (performance.now() < until);
  return WOULD_BLOCK;
}

export class AdaptivePoll {
  /** Chances to pass by before the next one is taken. */
  #skip = 0;
  /** How many will be passed by after the next look in vain. */
  #penalty = 0;
  readonly #useful: boolean;

  constructor({ processors = availableParallelism() } = {}) {
    // With one processor the peer could do nothing while it is waited for.
    this.#useful = processors > 1;
  }

  /** Calls `attempt` again until it answers anything but WOULD_BLOCK, or the time is up. Throws what `attempt` throws. */
  again(attempt: () => number): number {
    if (!this.#useful) return WOULD_BLOCK;
    if (this.#skip > 0) {
      this.#skip--;
      return WOULD_BLOCK;
    }
    const result = lookFor(LONGEST, attempt);
    if (result !== WOULD_BLOCK) {
      this.#penalty = 0;
      return result;
    }
    this.#penalty = Math.min(this.#penalty * 2 + 1, MOST_SKIPPED);
    this.#skip = this.#penalty;
    return WOULD_BLOCK;
  }
}
