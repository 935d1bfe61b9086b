// When to leave the next requests of a peer in the socket for a moment. While a few are under way at another server, and that
// one is as fast as processors allow, those that come meanwhile are best taken with its next reply: all of them at once, instead
// of being woken for each. A server that is slow may do many things at a time, and must have them all: where replies take
// longer, that is not tried often.

/** Milliseconds for each request under way up to which a reply comes soon: about what a request costs all who deal with it. */
const SOON = 0.016;

/** With fewer requests under way the other server would soon have nothing to do. */
const FEWEST = 4;

/** Milliseconds after which requests are taken whatever comes of the others, twice that at most. */
const LONGEST = 1;

/** Times in vain in a row after which only every so many-th chance is taken. */
const MOST_SKIPPED = 1023;

export class Gathering {
  /** Chances to pass by before the next one is taken. */
  #skip = 0;
  /** How many will be passed by after the next time in vain. */
  #penalty = 0;
  /** Until when a reply would come soon. */
  #until = 0;
  #isOn = false;
  /** It has begun after the timer last looked. */
  #isNew = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #onLate: () => void;
  readonly #now: () => number;

  /** `onLate`: no reply has come, requests are to be taken. `now`: milliseconds. */
  constructor(onLate: () => void, now: () => number = () => performance.now()) {
    this.#onLate = onLate;
    this.#now = now;
  }

  /** Whether requests are left in the socket from now on, until end() or `onLate`, with `underWay` of them elsewhere. */
  begin(underWay: number): boolean {
    if (underWay < FEWEST) return false;
    if (this.#skip > 0) {
      this.#skip--;
      return false;
    }
    this.#isOn = true;
    this.#isNew = true;
    this.#until = this.#now() + underWay * SOON;
    this.#timer ??= setTimeout(() => this.#look(), LONGEST);
    return true;
  }

  /** A reply has come. Whether requests may have been left in the socket. */
  end(): boolean {
    if (!this.#isOn) return false;
    this.#isOn = false;
    if (this.#now() <= this.#until) this.#penalty = 0;
    else this.#failed();
    return true;
  }

  /** For good: `onLate` is not called any more. */
  close(): void {
    clearTimeout(this.#timer);
    this.#isOn = false;
  }

  #look(): void {
    this.#timer = undefined;
    if (!this.#isOn) return;
    if (this.#isNew) {
      this.#isNew = false;
      this.#timer = setTimeout(() => this.#look(), LONGEST);
      return;
    }
    this.#isOn = false;
    this.#failed();
    this.#onLate();
  }

  #failed(): void {
    this.#penalty = Math.min(this.#penalty * 2 + 1, MOST_SKIPPED);
    this.#skip = this.#penalty;
  }
}
