// Takes the requests of one connection out of its stream: header, and what follows it, the data of a write. Small data stay where
// they were received; large data are received straight into a buffer of their own, or into a pipe. Nothing is carried out before
// all of it is there.

import type { DataPipe } from '../../base/data-pipe.ts';
import { ProtocolError } from '../../base/errors.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import { type ByteChannel, WOULD_BLOCK } from '../../net/byte-channel.ts';
import {
  EXTENDED_REQUEST_SIZE,
  NBD_CMD_DISC,
  NBD_EXTENDED_REQUEST_MAGIC,
  nameOfCommand,
  REQUEST_SIZE,
} from '../../net/nbd/protocol.ts';
import {
  decodeExtendedRequest,
  decodeRequest,
  NbdRequest,
  setExtendedLength,
} from '../../net/nbd/wire.ts';
import type { BufferPool } from './buffer-pool.ts';
import { type CommandRow, rowOfCommand } from './commands.ts';
import type { Input } from './input.ts';
import type { MetaContext } from './meta-context.ts';
import { hasPayload, refusalBeforePayload } from './request.ts';
import { takeFilter } from './status-filter.ts';
import type { KeptRequest } from './under-way.ts';

/** Data of a write from this length on are received straight into a buffer of their own. */
const DIRECT_FROM = 64 * 1024;

/** Bytes of data received with their header up to which the others may be in a pipe, where these have to be copied first. */
const PUT_SIZE = 4096;

/** Large writes without a pipe after one whose pipe did not take all data: what came in small pieces once may come so again. */
const WRITES_WITHOUT_PIPE = 64;

/**
 * What next() found. `complete`: `request` is there, with its data. `refused`: `reason` says why it may not even be received;
 * the next one can. `broken`: likewise, but what follows cannot be understood. `disconnect`: the client is done. `waiting`:
 * there is no memory for `request` as long as others are under way.
 */
export type Frame = 'incomplete' | 'waiting' | 'complete' | 'refused' | 'broken' | 'disconnect';

export interface RequestReaderOptions {
  readonly channel: ByteChannel;
  readonly input: Input;
  readonly pool: BufferPool;
  readonly trace: Trace;
  readonly extendedHeaders: boolean;
  readonly contexts: readonly MetaContext[];
  /** Bytes that the client said its requests would be aligned to. */
  readonly alignment: number;
  /** Whether there is memory for a request, its data included. */
  readonly mayBegin: (row: CommandRow | undefined, request: NbdRequest) => boolean;
  /** An empty pipe for so many bytes of data to write, if they may be there. */
  readonly takePipe: (length: number) => DataPipe | undefined;
}

export class RequestReader {
  /** The request that next() was about; used again for the one after it, unless keep() is called. */
  request = new NbdRequest();
  /** Its row; undefined for a type that there is none for. */
  row: CommandRow | undefined;
  /** Why it was refused. */
  reason = '';
  readonly #options: RequestReaderOptions;
  readonly #input: Input;
  readonly #headerSize: number;
  readonly #decodeHeader: typeof decodeRequest;
  /** The header of `request` has been taken; it waits for memory, or for its data. */
  #stage: 'header' | 'memory' | 'data' = 'header';
  /** Where large data are being received, unless that is in the request's pipe, and how many there are. */
  #direct: IoBuffer | undefined;
  #directLength = 0;
  /** The write before was large: another is likely, so leave its data in the socket. */
  #expectLarge = false;
  /** Large writes whose data go to memory in any case. */
  #withoutPipe = 0;
  #emptied = false;

  constructor(options: RequestReaderOptions) {
    this.#options = options;
    this.#input = options.input;
    this.#headerSize = options.extendedHeaders ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE;
    this.#decodeHeader = options.extendedHeaders ? decodeExtendedRequest : decodeRequest;
  }

  /** The channel gave less than it was asked for last: all that it had. */
  get emptied(): boolean {
    return this.#emptied;
  }

  /** In the middle of the data of a write. */
  get inData(): boolean {
    return this.#stage === 'data';
  }

  next(): Frame {
    if (this.#stage === 'header') {
      if (this.#input.length < this.#headerSize) return 'incomplete';
      const frame = this.#decode(this.request);
      if (frame !== 'complete') return frame;
    }
    const { request, row } = this;
    if (this.#stage !== 'data' && !this.#options.mayBegin(row, request)) {
      this.#stage = 'memory';
      return 'waiting';
    }
    if (!hasPayload(row, request)) {
      this.#stage = 'header';
      return 'complete';
    }
    const ready = request.length === 0 || this.#haveData(request);
    this.#stage = ready ? 'header' : 'data';
    if (!ready) return 'incomplete';
    if (row?.payload !== 'request') this.#applyPayload(request);
    return 'complete';
  }

  /** A payload that is no data to write: a filter of metadata contexts, or nothing that anybody wants. */
  #applyPayload(request: NbdRequest): void {
    if (this.row?.payload === 'filter') takeFilter(request, this.#options.contexts);
    else setExtendedLength(request, 0, 0);
  }

  /**
   * Receives once: how many bytes, 0 at end of stream, or WOULD_BLOCK. Throws IoError. `isNews`: the channel has reported bytes,
   * of which none were received yet.
   */
  receive(isNews: boolean): number {
    const { channel } = this.#options;
    if (this.#direct === undefined) {
      const limit = this.#expectLarge && this.#input.length === 0 ? this.#headerSize : Infinity;
      const received = this.#input.receive(channel, limit);
      this.#emptied = received < limit && !this.#input.isFull;
      return received;
    }
    const missing = this.request.length - this.#directLength;
    const received = this.#receiveData(this.#direct, missing, isNews);
    if (received > 0) this.#directLength += received;
    this.#emptied = received < missing;
    return received;
  }

  /** `request` has been carried out: its data are not needed any more. */
  done(): void {
    if (this.#direct === undefined) return;
    this.#options.pool.give(this.#direct);
    this.#direct = undefined;
    releasePipe(this.request);
  }

  /** `request` goes on for a while: it and its data are `kept` as they are until release(); what was there is used next. */
  keep(kept: KeptRequest): void {
    const { request } = this;
    this.request = kept.request;
    kept.request = request;
    kept.direct = this.#direct;
    this.#direct = undefined;
    kept.pinned =
      kept.direct === undefined && request.payload !== undefined ? this.#input.pin() : undefined;
  }

  /** A request that was kept has ended. */
  release(kept: KeptRequest): void {
    if (kept.direct !== undefined) this.#options.pool.give(kept.direct);
    if (kept.pinned !== undefined) this.#input.unpin(kept.pinned);
    kept.direct = undefined;
    kept.pinned = undefined;
    kept.request.payload = undefined;
    releasePipe(kept.request);
  }

  /** Forgets what was received and not taken. */
  discard(): void {
    this.done();
    this.#input.discard();
  }

  #decode(request: NbdRequest): Frame {
    const input = this.#input;
    const { view } = input.buffer as IoBuffer;
    const at = input.start;
    input.start += this.#headerSize;
    request.payload = undefined;
    try {
      this.#decodeHeader(view, at, request);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.reason = this.#wrongMagic(view.getUint32(at));
      return 'broken';
    }
    if (this.#options.trace.nbd_receive_request.enabled) this.#traceRequest(request);
    if (request.type === NBD_CMD_DISC) return 'disconnect';
    const row = rowOfCommand(request.type);
    this.row = row;
    const reason = refusalBeforePayload(row, request);
    if (reason === undefined) return 'complete';
    this.reason = reason;
    return hasPayload(row, request) ? 'broken' : 'refused';
  }

  #wrongMagic(magic: number): string {
    const got = `got 0x${magic.toString(16)}`;
    if (!this.#options.extendedHeaders) return `invalid magic (${got})`;
    return `invalid magic (${got}, expected 0x${NBD_EXTENDED_REQUEST_MAGIC.toString(16)})`;
  }

  /** Whether the data of a write are there; sees to it that they can be. */
  #haveData(request: NbdRequest): boolean {
    const input = this.#input;
    const { length } = request;
    if (this.#direct !== undefined) return this.#directLength === length;
    if (input.length >= length) {
      request.payload = input.buffer;
      request.payloadAt = input.start;
      input.start += length;
      this.#expectLarge = false;
      return true;
    }
    if (length < DIRECT_FROM) {
      input.makeRoom(length);
      return false;
    }
    const direct = this.#options.pool.take(length);
    const received = input.length;
    request.pipe = this.#pipeFor(request);
    if (received > 0 && request.pipe === undefined) {
      (input.buffer as IoBuffer).bytes.copy(direct.bytes, 0, input.start, input.end);
    }
    this.#directLength = received;
    input.start = input.end;
    this.#direct = direct;
    this.#expectLarge = true;
    request.payload = direct;
    request.payloadAt = 0;
    return false;
  }

  /** With the data in it that were received. */
  #pipeFor(request: NbdRequest): DataPipe | undefined {
    const { length: received, start, buffer } = this.#input;
    if (this.row?.payload !== 'request' || received > PUT_SIZE) return undefined;
    if (this.#withoutPipe > 0) {
      this.#withoutPipe--;
      return undefined;
    }
    const pipe = this.#options.takePipe(request.length);
    if (pipe === undefined || received === 0 || pipe.put(buffer as IoBuffer, start, received)) {
      return pipe;
    }
    pipe.release();
    return undefined;
  }

  #receiveData(direct: IoBuffer, missing: number, isNews: boolean): number {
    const { channel } = this.#options;
    const { request } = this;
    if (request.pipe !== undefined) {
      const moved = channel.receiveInto?.(request.pipe, missing) ?? WOULD_BLOCK;
      // There was something: that the pipe does not take it has other reasons.
      if (moved !== WOULD_BLOCK || !isNews) return moved;
    }
    const received = channel.receive(direct, this.#directLength, missing);
    if (received > 0 && request.pipe !== undefined) {
      request.pipe.empty(direct, 0);
      releasePipe(request);
      this.#withoutPipe = WRITES_WITHOUT_PIPE;
    }
    return received;
  }

  #traceRequest(request: NbdRequest): void {
    const { trace, alignment } = this.#options;
    const { flags, type, offset, length } = request;
    const name = nameOfCommand(type);
    trace.nbd_receive_request.log({ name, type, flags, offset, length });
    if (offset % alignment === 0 && length % alignment === 0) return;
    trace.nbd_co_receive_align_compliance.log({ name, offset, length, alignment });
  }
}

function releasePipe(request: NbdRequest): void {
  request.pipe?.release();
  request.pipe = undefined;
}
