// In which order the ends of exports are told when all of them end at once: the reference's, which comes from the rounds of its
// event loop. What ends in one round is told in a later one, the last of it first; but before the end of an export is told, its
// disk comes to rest, and so do the clients that other exports of it have.

/** What the end of an export takes. */
export type Ending =
  | { readonly kind: 'at-once' }
  /** That many clients must leave. `heard`: the greater, the later the last of them was heard. */
  | { readonly kind: 'clients'; readonly count: number; readonly heard: number }
  /** A frontend must let go; exports that are older are not looked at before. */
  | { readonly kind: 'frontend' };

export interface Closing<T> {
  readonly what: T;
  readonly ending: Ending;
  /** Whether the disk of this export is, or is part of, the disk of another one. */
  readonly sharesDiskWith: (other: T) => boolean;
}

/** Rounds can be inside each other, one for each export. With more exports than this the oldest is told first. */
const LONGEST = 1000;

/** The same, in the order in which their ends are told. */
export function closingOrder<T>(newestFirst: readonly Closing<T>[]): T[] {
  if (newestFirst.length > LONGEST) return newestFirst.map(({ what }) => what).reverse();
  const rounds = new Rounds<T>();
  for (const closing of newestFirst) {
    const { ending } = closing;
    if (ending.kind === 'clients') {
      rounds.leaving.push({ closing, count: ending.count, heard: ending.heard });
      continue;
    }
    if (ending.kind === 'frontend') rounds.next();
    rounds.due.push({ closing, next: 'is told' });
  }
  while (rounds.due.length > 0 || rounds.leaving.length > 0) rounds.next();
  return rounds.told;
}

interface Due<T> {
  readonly closing: Closing<T>;
  readonly next: 'clients are gone' | 'is told';
}

/** An export whose clients have been told to leave, and have not noticed. */
interface Leaving<T> {
  readonly closing: Closing<T>;
  readonly heard: number;
  count: number;
}

class Rounds<T> {
  readonly told: T[] = [];
  /** For the next round; the last is the first. */
  due: Due<T>[] = [];
  leaving: Leaving<T>[] = [];
  /** What rounds that have begun still have to do, the outermost first: a round inside another one does its work, too. */
  readonly #begun: Due<T>[][] = [];

  next(): void {
    this.#begun.push(this.due.toReversed());
    this.due = [];
    for (let first = this.#begun[0]; first !== undefined; first = this.#begun[0]) {
      const one = first.shift();
      if (one === undefined) this.#begun.shift();
      else this.#carryOut(one);
    }
    // Clients notice.
    this.leaving.sort((a, b) => b.heard - a.heard);
    for (const { closing } of this.leaving) this.due.push({ closing, next: 'clients are gone' });
    this.leaving = [];
  }

  #carryOut({ closing, next }: Due<T>): void {
    if (next === 'is told') {
      while (this.#clientsRest(closing)) this.next();
      this.told.push(closing.what);
    } else {
      this.due.push({ closing, next: 'is told' });
    }
  }

  /** One client of each export of the disk leaves. False when there is none. */
  #clientsRest({ sharesDiskWith }: Closing<T>): boolean {
    const resting = this.leaving.filter(({ closing }) => sharesDiskWith(closing.what));
    for (const each of resting) {
      each.count--;
      if (each.count > 0) continue;
      this.leaving.splice(this.leaving.indexOf(each), 1);
      this.due.push({ closing: each.closing, next: 'is told' });
    }
    return resting.length > 0;
  }
}
