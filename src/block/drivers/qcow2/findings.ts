// What is found wrong with an image when it is checked: counted, and said on lines as the reference prints them.

import type { Logger } from '../../../base/log.ts';

/** A broken image may have more to say than anybody reads. */
const MOST_LINES = 1000;

export class Findings {
  /** Entries that make no sense: nobody here can say what they should be. */
  corruptions = 0;
  /** Refcounts that are wrong, or cannot be read. */
  wrongRefcounts = 0;
  readonly #log: Logger;
  #lines = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  corruption(line?: string): void {
    this.corruptions++;
    if (line !== undefined) this.say(line);
  }

  wrongRefcount(line: string): void {
    this.wrongRefcounts++;
    this.say(line);
  }

  say(line: string): void {
    this.#lines++;
    if (this.#lines <= MOST_LINES) this.#log.error(line, { bare: true });
    if (this.#lines === MOST_LINES)
      this.#log.error('(no more is said of this image)', { bare: true });
  }
}
