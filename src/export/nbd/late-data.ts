// Data of a reply that come later: their place in the output is kept, and what stands in front of them is written when they are
// there. What notes that is used again, so that data that are there at once cost nothing.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Completion } from '../../block/completion.ts';
import type { NbdRequest } from '../../net/nbd/wire.ts';
import type { Region } from './output.ts';
import { headDataChunk, headSimpleData, type ReplyTarget } from './reply.ts';

/** Where data lie, behind the room for a header at `at`, and what they are. */
interface DataPlace {
  readonly buffer: IoBuffer;
  readonly at: number;
  readonly offset: number;
  readonly length: number;
}

/** Where a reply with data goes, and of which kind it is. */
interface DataTarget extends ReplyTarget {
  readonly structuredReply: boolean;
}

/** Writes the header of a simple reply, or of a chunk, in front of data that were read. */
export function headData(target: DataTarget, request: NbdRequest, place: DataPlace): void {
  if (target.structuredReply) headDataChunk(target, request, place);
  else headSimpleData(target, request, place);
}

class LateData implements Completion {
  /** Set when the data are to come later. */
  region: Region | undefined = undefined;
  request: NbdRequest | undefined = undefined;
  offset = 0;
  length = 0;
  completion: Completion | undefined = undefined;
  readonly #pool: LateDataPool;

  constructor(pool: LateDataPool) {
    this.#pool = pool;
  }

  completed(error: unknown): void {
    const { completion } = this;
    this.#pool.end(this, error);
    completion?.completed(error);
  }
}

/** Those of one connection. */
export class LateDataPool {
  readonly #target: DataTarget;
  readonly #spare: LateData[] = [];

  constructor(target: DataTarget) {
    this.#target = target;
  }

  /** For data that may come later; `completion` is told when their part of the reply is there, or there will be none. */
  take(request: NbdRequest, offset: number, length: number, completion: Completion): LateData {
    const late = this.#spare.pop() ?? new LateData(this);
    late.request = request;
    late.offset = offset;
    late.length = length;
    late.completion = completion;
    return late;
  }

  /** They are there already. */
  takeBack(late: LateData): void {
    this.#spare.push(late);
  }

  end(late: LateData, error: unknown): void {
    const { region, request, offset, length } = late;
    const { output } = this.#target;
    late.region = undefined;
    this.#spare.push(late);
    if (region === undefined || request === undefined)
      throw new Error('Data that nobody waits for');
    if (error !== undefined) {
      output.abandon(region);
      return;
    }
    headData(this.#target, request, { buffer: region.buffer, at: region.at, offset, length });
    output.complete(region);
  }
}
