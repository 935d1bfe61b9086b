// "Done later" without a promise, for requests whose answers come from elsewhere a hundred thousand times a second: whoever
// starts one says whom to tell.

import type { MaybePromise } from '../base/io-buffer.ts';

/** What became of a request that was started: it is done, or its completion will be told. */
export type Started = 'done' | 'later';

/** The same of what may have made a promise of it instead. */
export type Outcome = Started | MaybePromise<void>;

/** Whom to tell of the end of a request. */
export interface Completion {
  /**
   * The request has ended, with what `read` or `write` would reject (IoError), or undefined when it has succeeded. Called once,
   * never before the function that started it has returned 'later', and not at all after anything else. Must not throw.
   */
  completed(error: unknown): void;
}

/** Tells `completion` of what a promise becomes, if there is one. */
export function tell(later: MaybePromise<void>, completion: Completion): Started {
  if (later === undefined) return 'done';
  later.then(
    () => completion.completed(undefined),
    (error: unknown) => completion.completed(error),
  );
  return 'later';
}

/** Starts something, and makes a promise of it unless it is done at once. Throws what `start` throws. */
export function promised(start: (completion: Completion) => Outcome): MaybePromise<void> {
  let settle = (_error: unknown): void => {};
  const outcome = start({ completed: (error) => settle(error) });
  if (outcome === 'done' || outcome === undefined) return undefined;
  if (outcome !== 'later') return outcome;
  return new Promise((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error));
  });
}
