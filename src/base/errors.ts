// The three failures that are never mixed up. A peer that breaks the rules: ProtocolError, its connection ends. A request
// that cannot be served: IoError, answered as an errno. A command that cannot be carried out: QmpError (src/qapi/errors.ts).

import { errnoName, strerror } from './errno.ts';

export interface IoErrorContext {
  /** What failed: a syscall, or the block layer operation that stands in for one. */
  readonly syscall: string;
  readonly path?: string;
  /** Bytes from the start of the node or file. */
  readonly offset?: number;
}

/** A failure of the data path. `errno` is positive, as errno.h spells it. */
export class IoError extends Error {
  override readonly name = 'IoError';
  readonly errno: number;
  readonly context: IoErrorContext;

  constructor(errno: number, context: IoErrorContext) {
    super(`${context.syscall}: ${strerror(errno)} (${errnoName(errno)})`);
    this.errno = errno;
    this.context = context;
  }

  /** The text of the errno alone, as strerror(3) gives it: `No such file or directory`. */
  get reason(): string {
    return strerror(this.errno);
  }
}

/** Bytes from a peer that the protocol does not allow at this point. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  readonly field: string;

  constructor(field: string, received: number | string, expected: number | string) {
    super(`${field}: received ${spelled(received)}, expected ${spelled(expected)}`);
    this.field = field;
  }
}

function spelled(value: number | string): string {
  return typeof value === 'number' ? `0x${value.toString(16)}` : value;
}
