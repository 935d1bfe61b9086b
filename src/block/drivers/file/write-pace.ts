// Decides where a small write to the page cache is done. On the main thread it costs a few microseconds, unless the kernel
// makes writers wait (too many dirty pages, a slow file system): then it belongs in the thread pool until that is over.

/** A write that took longer than this many milliseconds was made to wait. */
const SLOW = 2;
/** How long to stay away after the first slow write, and after many, in milliseconds. */
const SHORTEST_PAUSE = 10;
const LONGEST_PAUSE = 1000;

export class WritePace {
  #resumeAt = 0;
  #pause = SHORTEST_PAUSE;

  /** Whether to write on the main thread, `now` milliseconds after any epoch. */
  allows(now: number): boolean {
    return now >= this.#resumeAt;
  }

  /** Tells how long a write on the main thread took. */
  note(begin: number, end: number): void {
    if (end - begin <= SLOW) {
      if (this.#pause !== SHORTEST_PAUSE) this.#pause = SHORTEST_PAUSE;
      return;
    }
    this.#resumeAt = end + this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }
}
