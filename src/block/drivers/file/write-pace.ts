// Decides where a small write to the page cache is done. On the main thread it costs a few microseconds, unless the kernel
// makes writers wait (too many dirty pages, a slow file system): then it belongs in the thread pool until that is over.
// One slow write among many proves nothing, since a busy machine takes the processor away for milliseconds, too.

/** A write that took longer than this many milliseconds was made to wait. */
const SLOW = 1;
/** So many milliseconds of waiting, the older ones counting less, are enough. */
const LIMIT = 10;
/** What is left of them after each write that did not wait. */
const DECAY = 0.98;
/** How long to stay away the first time, and after many times in a row, in milliseconds. */
const SHORTEST_PAUSE = 10;
const LONGEST_PAUSE = 1000;

export class WritePace {
  #waited = 0;
  #resumeAt = 0;
  #pause = SHORTEST_PAUSE;

  /** Whether to write on the main thread; `now` in milliseconds since any epoch. */
  allows(now: number): boolean {
    return now >= this.#resumeAt;
  }

  /** Tells from when to when a write on the main thread took. */
  note(begin: number, end: number): void {
    const elapsed = end - begin;
    if (elapsed <= SLOW) {
      if (this.#waited > 0) this.#recover();
      return;
    }
    this.#waited += elapsed;
    if (this.#waited < LIMIT) return;
    this.#resumeAt = end + this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    // The next slow write is enough to stay away again, longer.
    this.#waited = LIMIT;
  }

  #recover(): void {
    this.#waited *= DECAY;
    if (this.#waited >= SLOW) return;
    this.#waited = 0;
    this.#pause = SHORTEST_PAUSE;
  }
}
