// What a command works on: one connection's negotiated view of an export.

import type { MaybePromise } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import type { DataRange } from './data-range.ts';
import type { MetaContext } from './meta-context.ts';
import type { Output } from './output.ts';

export interface Session {
  readonly backend: BlockBackend;
  readonly output: Output;
  readonly trace: Trace;
  readonly structuredReply: boolean;
  /** What NBD_OPT_SET_META_CONTEXT selected, in the order of the ids. */
  readonly contexts: readonly MetaContext[];
  /** Bytes of the export. */
  readonly size: number;
  /** The export's, shared by its connections. */
  readonly dataRange: DataRange;
  /** Zeroes or holes have come where data may have been, in any export. */
  forgetData(): void;
  /** Done or resolves when the output has room: for commands whose reply has many parts. */
  room(): MaybePromise<void>;
}

/** A command failed with a text of its own, not that of its row. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  /** Positive, as errno.h spells it. */
  readonly errno: number;

  constructor(errno: number, text: string) {
    super(text);
    this.errno = errno;
  }
}
