// Changes that happen together or not at all: each is prepared, and once all are, each takes effect; when one cannot be, those
// before it are undone, the last first.

import type { MaybePromise } from '../base/io-buffer.ts';

/** One of them. `prepare` alone may fail. */
export interface TransactionAction {
  /** Does all that may fail, in a way that can be undone. Throws QmpError. */
  prepare(): MaybePromise<void>;
  commit?(): MaybePromise<void>;
  /** Undoes what was prepared, which may be a part of it: it is called when `prepare` fails, too. */
  abort?(): MaybePromise<void>;
  /** When all is over, either way. */
  clean?(): MaybePromise<void>;
}

/** Throws what an action's `prepare` throws; nothing has happened then. */
export async function runTransaction(actions: readonly TransactionAction[]): Promise<void> {
  const begun: TransactionAction[] = [];
  try {
    try {
      for (const action of actions) {
        begun.push(action);
        await action.prepare();
      }
    } catch (error) {
      for (const action of begun.toReversed()) await action.abort?.();
      throw error;
    }
    for (const action of begun) await action.commit?.();
  } finally {
    for (const action of begun) await action.clean?.();
  }
}
