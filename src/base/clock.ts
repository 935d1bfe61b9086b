// Time, for what has to wait: the machine's in a daemon, a made-up one in a test.

/** Longest time that a timer of Node takes; what waits for longer looks again then. */
const LONGEST_MS = 2 ** 31 - 1;

export interface Clock {
  /** Milliseconds and parts of them since some moment; never goes back. */
  now(): number;
  /** Calls `run` about so many milliseconds from now, perhaps early: ask `now`. The answer takes it back. */
  after(milliseconds: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, Math.min(milliseconds, LONGEST_MS));
    return () => clearTimeout(timer);
  },
};
