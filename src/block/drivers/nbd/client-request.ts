// One request to a server, from its submission to the end of its reply; on a new connection it may begin anew.

import type { DataPipe, PipeSource } from '../../../base/data-pipe.ts';
import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import { NBD_CMD_READ, nameOfCommand } from '../../../net/nbd/protocol.ts';
import type { Completion } from '../../completion.ts';
import { ReadCoverage } from './read-coverage.ts';

/** The first extent of an answer to NBD_CMD_BLOCK_STATUS. */
export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

export interface RequestTerms {
  readonly type: number;
  /** NBD_CMD_FLAG_* */
  readonly flags: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** Where data are read to or written from: `length` bytes at `at`. */
  readonly buffer?: IoBuffer | undefined;
  readonly at?: number;
  /** Where the last of the data may be instead; see BlockDriver.startRead. */
  readonly pipes?: PipeSource | undefined;
  /** Where the data of a write are instead, all of them; see BlockDriver.startWrite. */
  readonly from?: DataPipe | undefined;
}

export class ClientRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly buffer: IoBuffer | undefined;
  readonly at: number;
  readonly from: DataPipe | undefined;
  #pipes: PipeSource | undefined;
  #pipe: DataPipe | undefined = undefined;
  readonly #completion: Completion;

  /** Which of a connection's requests this is: other than any other reply's. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes that the connection must have sent before the server can know the whole request. */
  sentAt = 0;

  // What of the reply was there.
  /** A chunk was: the rest of the reply comes in chunks, too. */
  isStructured = false;
  /** The errno of the first error, 0 without one. */
  failure = 0;
  #coverage: ReadCoverage | undefined = undefined;
  /** All the data were in one chunk. */
  #isWhole = false;
  extent: StatusExtent | undefined = undefined;

  /** `completion` is told when the reply is there, or when none will come: IoError. */
  constructor(terms: RequestTerms, completion: Completion) {
    this.type = terms.type;
    this.flags = terms.flags;
    this.offset = terms.offset;
    this.length = terms.length;
    this.buffer = terms.buffer;
    this.at = terms.at ?? 0;
    this.from = terms.from;
    this.#pipes = terms.pipes;
    this.#completion = completion;
  }

  get isRead(): boolean {
    return this.type === NBD_CMD_READ;
  }

  /** Where its next data go; undefined for memory. */
  get pipe(): DataPipe | undefined {
    return this.#pipe;
  }

  /** As `pipe`, if need be of a new one for all the data but `done` bytes, which are in memory. */
  takePipe(done: number): DataPipe | undefined {
    this.#pipe ??= this.#pipes?.takePipe(done);
    this.#pipes = undefined;
    return this.#pipe;
  }

  /** What is in the pipe goes to memory, up to `end`, and so do the data that come. */
  leavePipe(end: number): void {
    const pipe = this.#pipe;
    this.#pipe = undefined;
    this.#pipes = undefined;
    if (pipe !== undefined && this.buffer !== undefined) pipe.empty(this.buffer, end - pipe.length);
  }

  /** Forgets what there was of a reply. */
  restart(): void {
    this.leavePipe(this.at + this.length);
    this.isStructured = false;
    this.failure = 0;
    this.#coverage = undefined;
    this.#isWhole = false;
    this.extent = undefined;
  }

  /** The reply is complete. */
  finish(): void {
    if (this.failure === 0) this.#completion.completed(undefined);
    else this.fail(this.failure);
  }

  fail(number?: number): void {
    this.#completion.completed(this.errorOf(number));
  }

  /** What whoever made the request is told of an error. */
  errorOf(number: number = errno.EIO): IoError {
    return new IoError(number, { syscall: `NBD ${nameOfCommand(this.type)}`, offset: this.offset });
  }

  /** Notes a part of the data. False when it was there before, or the server scatters it without end. */
  cover(start: number, end: number): boolean {
    if (this.#isWhole) return false;
    if (this.#coverage === undefined && end - start === this.length) {
      this.#isWhole = true;
      return true;
    }
    this.#coverage ??= new ReadCoverage(this.offset);
    return this.#coverage.add(start, end);
  }

  /** All the data of a structured reply are there. */
  get isCovered(): boolean {
    return this.#isWhole || (this.#coverage?.isUpTo(this.offset + this.length) ?? false);
  }
}
