// Failures of system calls, made by src/sys or by node:fs, as the texts the reference appends to its messages.

import { strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';

/** strerror(3) of a failed system call, or undefined when the error is none. */
export function reasonOf(error: unknown): string | undefined {
  if (error instanceof IoError) return error.reason;
  if (!(error instanceof Error)) return undefined;
  const { errno, code } = error as NodeJS.ErrnoException;
  if (typeof errno === 'number') return strerror(-errno);
  // node:fs refuses a NUL in a path before any system call.
  return code === 'ERR_INVALID_ARG_VALUE' ? 'Invalid argument' : undefined;
}

/** A QmpError `CONTEXT: strerror` for a failed system call; any other error is handed back. */
export function failure(context: string, error: unknown): unknown {
  const reason = reasonOf(error);
  return reason === undefined ? error : new QmpError(`${context}: ${reason}`, { cause: error });
}
