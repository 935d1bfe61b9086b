// Errors of files as commands tell them: what was tried, and why it failed.

import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';

/** Does `work`; an IoError becomes a QmpError `WHAT: REASON`. */
export async function saying<T>(what: string, work: () => MaybePromise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${what}: ${error.reason}`, { cause: error });
  }
}
