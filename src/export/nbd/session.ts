// What a command works on: one connection's negotiated view of an export.

import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import type { Completion } from '../../block/completion.ts';
import type { DataRanges } from './data-ranges.ts';
import type { LateDataPool } from './late-data.ts';
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
  /** To be told of the end of the command that is being carried out, if that answers 'later'. */
  readonly underWay: Completion;
  readonly lateData: LateDataPool;
  /** The export's, shared by its connections. */
  readonly dataRanges: DataRanges;
  /** Zeroes or holes have come where data may have been, in any export. */
  forgetData(): void;
  /**
   * Sends the reply to a read whose data are in the page cache of a file straight from there: `head` writes its header, of
   * `headerSize` bytes, at a place in the output's buffer. False when it cannot be, and nothing was done.
   */
  sendCached(
    area: { readonly offset: number; readonly length: number },
    headerSize: number,
    head: (buffer: IoBuffer, at: number) => void,
  ): boolean;
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
