// In which order the ends of exports are told when all of them end at once: the reference's, which comes from the rounds of its
// event loop. What ends in one round is told in the next one, the last of it first.

/** What the end of an export takes. */
export type Ending =
  | { readonly kind: 'at-once' }
  /** Clients must leave. `heard`: the greater, the later the last of them was heard. */
  | { readonly kind: 'clients'; readonly heard: number }
  /** A frontend must let go; exports that are older are not looked at before. */
  | { readonly kind: 'frontend' };

export interface Closing<T> {
  readonly what: T;
  readonly ending: Ending;
}

interface Due<T> {
  readonly what: T;
  readonly next: 'clients are gone' | 'is told';
}

/** The same, in the order in which their ends are told. */
export function closingOrder<T>(newestFirst: readonly Closing<T>[]): T[] {
  const told: T[] = [];
  let due: Due<T>[] = [];
  let leaving: { what: T; heard: number }[] = [];
  const round = (): void => {
    const now = due.reverse();
    due = [];
    for (const { what, next } of now) {
      if (next === 'is told') told.push(what);
      else due.push({ what, next: 'is told' });
    }
    leaving.sort((a, b) => b.heard - a.heard);
    for (const { what } of leaving) due.push({ what, next: 'clients are gone' });
    leaving = [];
  };
  for (const { what, ending } of newestFirst) {
    if (ending.kind === 'clients') {
      leaving.push({ what, heard: ending.heard });
      continue;
    }
    if (ending.kind === 'frontend') round();
    due.push({ what, next: 'is told' });
  }
  while (due.length > 0 || leaving.length > 0) round();
  return told;
}
