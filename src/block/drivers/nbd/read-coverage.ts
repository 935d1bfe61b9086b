// Which parts of a read the chunks of its reply have brought: each byte must come exactly once, in any order.

/** Parts apart from each other beyond which a server is taken to mean harm: it may not cost us more than it. */
const MAX_ISLANDS = 4096;

export class ReadCoverage {
  /** All before it, from the start of the read, is there. */
  #edge: number;
  /** Parts behind the edge, in order and apart from each other: start, end, start, end, ... */
  readonly #islands: number[] = [];

  constructor(start: number) {
    this.#edge = start;
  }

  /** Adds a part that is not empty. False when some of it was there before, or there are too many parts. */
  add(start: number, end: number): boolean {
    if (start < this.#edge) return false;
    const islands = this.#islands;
    if (islands.length === 0 && start === this.#edge) {
      this.#edge = end;
      return true;
    }
    const index = this.#firstEndingAfter(start);
    const next = islands[index];
    if (next !== undefined && next < end) return false;
    const joinsPrevious = index > 0 && islands[index - 1] === start;
    const joinsNext = next === end;
    if (joinsPrevious && joinsNext) islands.splice(index - 1, 2);
    else if (joinsPrevious) islands[index - 1] = end;
    else if (joinsNext) islands[index] = start;
    else islands.splice(index, 0, start, end);
    if (islands[0] === this.#edge) {
      this.#edge = islands[1] as number;
      islands.splice(0, 2);
    }
    return islands.length <= 2 * MAX_ISLANDS;
  }

  /** Everything up to `end` is there. */
  isUpTo(end: number): boolean {
    return this.#edge === end;
  }

  /** The index of the first island whose end is beyond `at`; that of the end of the list without one. */
  #firstEndingAfter(at: number): number {
    let low = 0;
    let high = this.#islands.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#islands[2 * middle + 1] as number) > at) high = middle;
      else low = middle + 1;
    }
    return 2 * low;
  }
}
