// One mount's conversation with the kernel: receives requests from /dev/fuse, carries each out at once if it can, and replies.
// Back-pressure instead of queues: at the limit of requests under way, or while the node is drained, nothing is received.

import { errno } from '../../base/errno.ts';
import { IoError, ProtocolError } from '../../base/errors.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import type { Trace } from '../../base/trace.ts';
import { allocate, pageSize } from '../../sys/memory.ts';
import { type Poller, READABLE, type Watch } from '../../sys/poller.ts';
import { WOULD_BLOCK } from '../../sys/socket.ts';
import { AdaptivePoll } from '../adaptive-poll.ts';
import type { TransferBuffers } from './buffers.ts';
import type { FuseDevice } from './device.ts';
import type { FuseFile } from './fuse-file.ts';
import { negotiate } from './init.ts';
import {
  DATA_AT,
  nameOfOperation,
  type OperationRow,
  REQUEST_AT,
  rowOf,
  type Work,
} from './operations.ts';
import { FUSE_INIT, IN_HEADER_SIZE, INIT_OUT_SIZE, OUT_HEADER_SIZE } from './protocol.ts';
import { replies } from './reply.ts';
import { refusalOf } from './request.ts';
import {
  decodeHeader,
  decodeInit,
  encodeHeader,
  encodeInit,
  type FuseRequest,
  newRequest,
} from './wire.ts';

/** Requests of one mount that may be under way at once, each with a buffer perhaps. */
const MAX_REQUESTS_IN_FLIGHT = 64;

/** What is served before others get their turn, in requests of 4 KiB. */
const TURN = 256;
const TURN_UNIT = 4096;

/** What a request counts more that was waited for without sleep. */
const POLLED = 16;

/** So often in a row one request must have come alone before the next one is waited for without sleep. */
const SINGLES = 4;

/** How an unmount shows; ECONNABORTED where it came while a request was handed over. */
const unmounted: readonly number[] = [errno.ENODEV, errno.ECONNABORTED];

export interface FuseSessionOptions {
  /** The session closes it. */
  readonly device: FuseDevice;
  /** The export's, for logs and traces. */
  readonly id: string;
  readonly file: FuseFile;
  readonly buffers: TransferBuffers;
  readonly poller: Poller;
  readonly log: Logger;
  readonly trace: Trace;
  /** The conversation has ended by itself: nothing uses the mount any more, or it cannot go on. */
  readonly onGone: () => void;
}

export class FuseSession {
  readonly #options: FuseSessionOptions;
  readonly #watch: Watch;
  /** For replies without data. */
  readonly #replies: IoBuffer = allocate(TURN_UNIT);
  #serving = true;
  /** Resolves when the descriptor is closed. */
  readonly #closed: Promise<void>;
  #resolveClosed: () => void = () => {};
  #request: FuseRequest = newRequest();
  #input: IoBuffer | undefined;
  #output: IoBuffer | undefined;
  #inFlight = 0;
  /** There was another request in this turn: who sends them does not wait for one after the other. */
  #othersWait = false;
  /** Requests taken since the last time that there was none. */
  #taken = 0;
  /** How often in a row that was one. */
  #singles = 0;
  readonly #poll = new AdaptivePoll();
  readonly #attempt = (): number => (this.#hasEnded() ? 0 : this.#receive());
  #drained = false;
  #refusal = 0;
  #hasComplained = false;

  constructor(options: FuseSessionOptions) {
    this.#options = options;
    this.#closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#watch = options.poller.watch(options.device.fd, () => this.#pump());
    this.#wait();
  }

  /** Receives nothing while `drained`. */
  setDrained(drained: boolean): void {
    this.#drained = drained;
    this.#wait();
  }

  /** Answers further requests with this errno. */
  refuse(code: number): void {
    this.#refusal = code;
  }

  /** Receives nothing more; resolves when what is under way has been answered and the descriptor is closed. */
  stop(): Promise<void> {
    this.#end();
    return this.#closed;
  }

  #end(): void {
    if (!this.#serving) return;
    this.#serving = false;
    this.#watch.close();
    if (this.#inFlight === 0) this.#close();
  }

  #close(): void {
    this.#options.device.close();
    this.#resolveClosed();
  }

  #full(): boolean {
    return this.#inFlight >= MAX_REQUESTS_IN_FLIGHT || this.#drained;
  }

  #wait(): void {
    this.#watch.want(this.#full() ? 0 : READABLE);
  }

  /** Serves until there is nothing more, a limit is reached or its turn is over; if there is more, it is called again. */
  #pump(): void {
    this.#othersWait = false;
    for (let left = TURN; this.#serving && left > 0 && !this.#full(); ) {
      let received = this.#receive();
      if (received === WOULD_BLOCK && this.#mayPoll()) {
        this.#othersWait = false;
        left -= POLLED;
        received = this.#poll.again(this.#attempt);
      }
      if (received === WOULD_BLOCK || this.#hasEnded()) break;
      this.#taken++;
      left -= 1 + Math.floor(this.#serve(received) / TURN_UNIT);
      this.#othersWait = true;
    }
    this.#giveBuffers();
    this.#wait();
  }

  /** Who has made one request alone, several times in a row, makes the next one when this one is answered. */
  #mayPoll(): boolean {
    if (this.#taken > 0) this.#singles = this.#taken === 1 ? this.#singles + 1 : 0;
    this.#taken = 0;
    return this.#singles >= SINGLES && this.#inFlight === 0 && !this.#hasEnded();
  }

  /** Asked anew where the last request may have changed it. */
  #hasEnded(): boolean {
    return !this.#serving;
  }

  /** Bytes of the next request, or WOULD_BLOCK. */
  #receive(): number {
    this.#input ??= this.#options.buffers.take();
    const { address, bytes } = this.#input;
    try {
      const room = bytes.length - REQUEST_AT;
      const received = this.#options.device.read(address + REQUEST_AT, room);
      if (received !== 0) return received;
      this.#gone();
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      // ENOENT: the request was withdrawn while it was handed over.
      if (error.errno !== errno.ENOENT) this.#gone(error);
    }
    return WOULD_BLOCK;
  }

  /** Nobody would be served any more: whoever has the file open is to know it, rather than to wait. */
  #gone(reason?: IoError): void {
    if (reason !== undefined && !unmounted.includes(reason.errno)) this.#complain(reason);
    this.#end();
    this.#options.onGone();
  }

  /** Bytes of data of the request. */
  #serve(received: number): number {
    const request = this.#request;
    const { view } = this.#input as IoBuffer;
    request.length = 0;
    try {
      decodeHeader(view, REQUEST_AT, received, request);
    } catch (error) {
      this.#complain(error);
      // Without a header there is nothing to reply to.
      if (received >= IN_HEADER_SIZE) this.#replyError(request, errno.EIO);
      return 0;
    }
    const { fuse_receive_request: traced } = this.#options.trace;
    if (traced.enabled) {
      traced.log({ export: this.#options.id, request: nameOfOperation(request.opcode) });
    }
    if (request.opcode === FUSE_INIT) this.#negotiate(request, received - IN_HEADER_SIZE);
    else this.#carryOut(rowOf(request.opcode), request, received - IN_HEADER_SIZE);
    return request.length;
  }

  /** `length` is that of the arguments. */
  #carryOut(row: OperationRow | undefined, request: FuseRequest, length: number): void {
    if (row?.reply === 'none') return;
    try {
      const refused = refusalOf(row, request, length);
      if (row === undefined || refused !== 0 || this.#refusal !== 0) {
        this.#replyError(request, refused === 0 ? this.#refusal : refused);
        return;
      }
      const input = this.#input as IoBuffer;
      row.decode?.(input.view, REQUEST_AT + IN_HEADER_SIZE, request, length);
      this.#output ??= this.#options.buffers.take();
      const output = this.#output;
      const othersWait = this.#othersWait || this.#inFlight > 0;
      const result = row.run({ file: this.#options.file, request, input, output, othersWait });
      if (result instanceof Promise) this.#finishLater(row, { request, input, output }, result);
      else this.#reply(row, request, output, result ?? 0);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #finishLater(
    row: OperationRow,
    { request, input, output }: Pick<Work, 'request' | 'input' | 'output'>,
    later: Promise<number | void>,
  ): void {
    const { buffers } = this.#options;
    this.#request = newRequest();
    // What the request goes on using is not there for the next one.
    if (row.keepsInput === true) this.#input = undefined;
    if (row.reply === 'data') this.#output = undefined;
    this.#inFlight++;
    const finish = (): void => {
      if (row.keepsInput === true) buffers.give(input);
      if (row.reply === 'data') buffers.give(output);
      this.#inFlight--;
      if (this.#serving) this.#wait();
      else if (this.#inFlight === 0) this.#close();
    };
    const answered = later.then((result) => this.#reply(row, request, output, result ?? 0));
    answered.catch((error: unknown) => this.#fail(request, error)).finally(finish);
  }

  #negotiate(request: FuseRequest, length: number): void {
    const { id, trace } = this.#options;
    try {
      const offer = decodeInit((this.#input as IoBuffer).view, REQUEST_AT + IN_HEADER_SIZE, length);
      const reply = negotiate(offer, pageSize());
      trace.fuse_init.log({ export: id, version: `${offer.major}.${offer.minor}` });
      encodeInit(this.#replies.view, OUT_HEADER_SIZE, reply);
      encodeHeader(this.#replies.view, 0, request, INIT_OUT_SIZE, 0);
      this.#send(this.#replies.address, OUT_HEADER_SIZE + INIT_OUT_SIZE);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #reply(row: OperationRow, request: FuseRequest, output: IoBuffer, result: number): void {
    if (row.reply === 'none') return;
    if (row.reply === 'data') {
      const at = DATA_AT - OUT_HEADER_SIZE;
      encodeHeader(output.view, at, request, result, 0);
      this.#send(output.address + at, OUT_HEADER_SIZE + result);
      return;
    }
    const body = replies[row.reply];
    body.encode(this.#replies.view, OUT_HEADER_SIZE, result, this.#options.file);
    encodeHeader(this.#replies.view, 0, request, body.length, 0);
    this.#send(this.#replies.address, OUT_HEADER_SIZE + body.length);
  }

  #fail(request: FuseRequest, error: unknown): void {
    if (!(error instanceof IoError)) this.#complain(error);
    this.#replyError(request, error instanceof IoError ? error.errno : errno.EIO);
  }

  #replyError(request: FuseRequest, code: number): void {
    encodeHeader(this.#replies.view, 0, request, 0, code);
    this.#send(this.#replies.address, OUT_HEADER_SIZE);
  }

  #send(address: number, length: number): void {
    try {
      this.#options.device.write(address, length);
    } catch (error) {
      // ENOENT: nobody waits for it any more. ENODEV, EPERM: nothing is mounted; the next read tells.
      const expected: readonly number[] = [errno.ENOENT, errno.ENODEV, errno.EPERM];
      if (!(error instanceof IoError && expected.includes(error.errno))) this.#complain(error);
    }
  }

  #giveBuffers(): void {
    const { buffers } = this.#options;
    // In this order, so that each gets back what it had.
    if (this.#output !== undefined) buffers.give(this.#output);
    if (this.#input !== undefined) buffers.give(this.#input);
    this.#output = undefined;
    this.#input = undefined;
  }

  /** Something that should not happen; said once for a session, or a broken peer could fill the log. */
  #complain(error: unknown): void {
    if (this.#hasComplained) return;
    this.#hasComplained = true;
    const { log, id } = this.#options;
    const what = error instanceof IoError || error instanceof ProtocolError ? error.message : error;
    log.error(`FUSE export '${id}': ${String(what)}`, { err: error });
  }
}
