// "Done now" or "done later" without a promise where none is needed.

import type { MaybePromise } from '../base/io-buffer.ts';

/** Applies `then` to the value, at once when it is there. */
export function whenDone<T, U>(
  value: MaybePromise<T>,
  then: (value: T) => MaybePromise<U>,
): MaybePromise<U> {
  return value instanceof Promise ? value.then(then) : then(value);
}
