// Data of a reply that come later: their place in the output is kept, and what stands in front of them is written when they are
// there. What notes that is used again, so that data that are there at once cost nothing.

import type { DataPipe, PipeSource } from '../../base/data-pipe.ts';
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

/** The same for data that come later. */
interface LateDataTarget extends DataTarget {
  /** An empty pipe for so many bytes of data, if they may leave from one. */
  takePipe(length: number): DataPipe | undefined;
}

/** Writes the header of a simple reply, or of a chunk, in front of data that were read. */
export function headData(target: DataTarget, request: NbdRequest, place: DataPlace): void {
  if (target.structuredReply) headDataChunk(target, request, place);
  else headSimpleData(target, request, place);
}

class LateData implements Completion, PipeSource {
  /** Set when the data are to come later. */
  region: Region | undefined = undefined;
  request: NbdRequest | undefined = undefined;
  offset = 0;
  length = 0;
  completion: Completion | undefined = undefined;
  pipe: DataPipe | undefined = undefined;
  readonly #pool: LateDataPool;

  constructor(pool: LateDataPool) {
    this.#pool = pool;
  }

  takePipe(done: number): DataPipe | undefined {
    this.pipe = this.#pool.takePipe(this, done);
    return this.pipe;
  }

  completed(error: unknown): void {
    const { completion } = this;
    this.#pool.end(this, error);
    completion?.completed(error);
  }
}

/** Those of one connection. */
export class LateDataPool {
  readonly #target: LateDataTarget;
  readonly #spare: LateData[] = [];

  constructor(target: LateDataTarget) {
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

  takePipe(late: LateData, done: number): DataPipe | undefined {
    const { region, request, offset, length } = late;
    if (region === undefined || request === undefined) return undefined;
    const pipe = this.#target.takePipe(length);
    if (pipe === undefined) return undefined;
    const { buffer, at } = region;
    headData(this.#target, request, { buffer, at, offset, length });
    // It leaves with the data, and so wakes the peer once.
    if (pipe.put(buffer, at, region.length - length + done)) return pipe;
    pipe.release();
    return undefined;
  }

  /** They are there already. */
  takeBack(late: LateData): void {
    this.#spare.push(late);
  }

  end(late: LateData, error: unknown): void {
    const { region, request, offset, length, pipe } = late;
    const { output } = this.#target;
    late.region = undefined;
    late.pipe = undefined;
    this.#spare.push(late);
    if (region === undefined || request === undefined)
      throw new Error('Data that nobody waits for');
    if (error !== undefined) {
      pipe?.release();
      output.abandon(region);
      return;
    }
    if (pipe !== undefined && pipe.length > 0) {
      output.completeWith(pipe, region);
      return;
    }
    const { buffer, at } = region;
    if (pipe === undefined) headData(this.#target, request, { buffer, at, offset, length });
    else pipe.release();
    output.complete(region);
  }
}
