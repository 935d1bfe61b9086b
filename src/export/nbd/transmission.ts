// The transmission phase of one connection: receives, decodes every whole request there is, carries each out at once if it can,
// and sends the replies of a batch together. A request that cannot be finished at once gets a slot; replies may overtake each
// other. Back-pressure instead of queues: without a free slot, or with replies that the peer does not take, nothing is read.

import type { DataPipe } from '../../base/data-pipe.ts';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import { tell } from '../../block/completion.ts';
import {
  type ByteChannel,
  type ChannelFailures,
  socketFailures,
  WOULD_BLOCK,
} from '../../net/byte-channel.ts';
import { NBD_CMD_READ, NBD_EINVAL, NBD_EPERM, NBD_ESHUTDOWN } from '../../net/nbd/protocol.ts';
import type { NbdRequest } from '../../net/nbd/wire.ts';
import { AdaptivePoll } from '../adaptive-poll.ts';
import { type BufferPool, footprint, LARGEST_SIZE } from './buffer-pool.ts';
import type { CommandRow } from './commands.ts';
import type { DataRanges } from './data-ranges.ts';
import { wireErrorOf } from './errno.ts';
import { Gathering } from './gathering.ts';
import type { Input } from './input.ts';
import { LateDataPool } from './late-data.ts';
import type { MetaContext } from './meta-context.ts';
import type { Output } from './output.ts';
import type { PipePool } from './pipe-pool.ts';
import { replyDone, replyError } from './reply.ts';
import { hasPayload, refusal } from './request.ts';
import { type Frame, RequestReader } from './request-reader.ts';
import { CommandError, type Session } from './session.ts';
import type { Traffic } from './traffic.ts';
import type { Turns } from './turns.ts';
import { UnderWay } from './under-way.ts';

/** Requests of one connection that may be under way at once; the reference's limit. */
const MAX_REQUESTS_IN_FLIGHT = 16;

/**
 * Bytes of memory for the requests of one connection that are under way, the one being received included: a request of the
 * largest size, or as many smaller ones. Replies that the peer does not take count too, since nothing is begun before they are
 * sent. This is what a peer can make the server hold, beside a buffer for each direction.
 */
const MAX_BYTES_IN_FLIGHT = LARGEST_SIZE;

/** Bytes of replies that are sent before the next request is carried out. */
const SEND_FROM = 128 * 1024;

/** So often in a row a peer must have sent one request alone before its next one is waited for without sleep. */
const SINGLES = 4;

/** Bytes of a request up to which being woken for it costs more than its data do. */
const QUICK_SIZE = 32 * 1024;

/** What is answered once the export goes; ours, as the reference knows no such state. */
const RETIRED = 'Export is being removed';

/** What anything but a read is answered while the node is inactive. */
const INACTIVE = 'export is inactive';

const UNFINISHED = 'Request handling failed in intermediate state';

export interface TransmissionOptions {
  readonly channel: ByteChannel;
  readonly input: Input;
  readonly output: Output;
  readonly pool: BufferPool;
  readonly pipes: PipePool;
  readonly turns: Turns;
  /** The export: what a command needs of it. */
  readonly target: {
    readonly backend: BlockBackend;
    readonly size: number;
    readonly readOnly: boolean;
    readonly dataRanges: DataRanges;
    forgetData(): void;
  };
  readonly trace: Trace;
  readonly structuredReply: boolean;
  readonly extendedHeaders: boolean;
  readonly traffic: Traffic;
  /** Bytes that the client said its requests would be aligned to. */
  readonly alignment: number;
  readonly contexts: readonly MetaContext[];
  /** The connection is over; `reason` is for the log, undefined for an orderly end. */
  readonly onEnd: (reason: string | undefined) => void;
  /** Something of ours went wrong; the connection is to be closed. */
  readonly onFault: (error: unknown) => void;
  /** Called after onEnd or stop(), once no request is under way. */
  readonly onIdle: () => void;
}

export class Transmission implements Session {
  readonly backend: BlockBackend;
  readonly output: Output;
  readonly trace: Trace;
  readonly structuredReply: boolean;
  readonly contexts: readonly MetaContext[];
  readonly size: number;
  readonly readOnly: boolean;
  readonly dataRanges: DataRanges;
  readonly #options: TransmissionOptions;
  readonly #channel: ByteChannel;
  readonly #traffic: Traffic;
  /** `ending`: takes no more requests, but finishes and answers those that it has. */
  #state: 'serving' | 'ending' | 'ended' = 'serving';
  #endReason: string | undefined;
  #idleReported = false;

  readonly #reader: RequestReader;
  #inFlight = 0;
  /** Those among them that another server has, and that it may answer at once. */
  #quick = 0;
  #bytesInFlight = 0;
  #drained = false;
  #refusing = false;
  #blocked = false;
  /** As many requests are under way as may be. */
  #stalled = false;
  /** The channel has reported bytes that were not received yet. */
  #isNews = false;
  /** Whether the channel was told that it is wanted to report bytes; not known at first. */
  #readable: boolean | undefined;
  #awake = false;
  /** The turn is over; the next one is under way. */
  #resting = false;
  /** Told of the end of the request that is being carried out, unless that is done at once. */
  underWay: UnderWay;
  readonly lateData = new LateDataPool(this);
  readonly #spare: UnderWay[] = [];
  readonly #onEnded = (ended: UnderWay, error: unknown): void => this.#ended(ended, error);
  readonly #waitingForRoom: (() => void)[] = [];
  /** Requests taken since the last time that nothing was received. */
  #taken = 0;
  /** How often in a row that was one. */
  #singles = 0;
  readonly #poll = new AdaptivePoll();
  readonly #gathering = new Gathering(() => this.readable());
  readonly #attempt = (): number => this.#reader.receive(false);

  constructor(options: TransmissionOptions) {
    this.#options = options;
    this.#channel = options.channel;
    this.#traffic = options.traffic;
    this.underWay = new UnderWay(this.#onEnded);
    this.#reader = new RequestReader({
      ...options,
      mayBegin: (row, request) => this.#hasMemoryFor(row, request),
      takePipe: (length) => this.#takePipeToWrite(length),
    });
    this.output = options.output;
    this.trace = options.trace;
    this.backend = options.target.backend;
    this.structuredReply = options.structuredReply;
    this.contexts = options.contexts;
    this.size = options.target.size;
    this.readOnly = options.target.readOnly;
    this.dataRanges = options.target.dataRanges;
  }

  /** The channel has bytes, or the end of them. */
  readable(): void {
    const wasStalled = this.#stalled;
    this.#isNews = true;
    this.pump();
    // Only now: to stop listening and begin anew costs system calls, which a peer that keeps to the limit is spared.
    if (wasStalled && this.#stalled) this.#wantReadable(false);
  }

  /** Serves until the peer has nothing more, a limit is reached or its turn is over. */
  pump(): void {
    if (this.#resting) return;
    try {
      this.#work();
    } catch (error) {
      this.#options.onFault(error);
    }
  }

  #work(): void {
    if (this.#state === 'ended') return;
    if (!this.#flush()) return;
    let left = this.#options.turns.next(this.#channel);
    while (this.#state === 'serving') {
      let frame: Frame = 'incomplete';
      while (left > 0 && !this.#full()) {
        frame = this.#reader.next();
        if (frame === 'incomplete' || frame === 'waiting') break;
        left -= 1 + Math.floor(this.#reader.request.length / 4096);
        this.#taken++;
        this.#take(frame);
        if (this.#state !== 'serving') break;
        if (this.output.length >= SEND_FROM && !this.#flush()) return;
      }
      if (!this.#flush()) return;
      if (this.#state !== 'serving') break;
      if (left <= 0) {
        this.#rest();
        return;
      }
      this.#stalled = frame === 'waiting' || this.#full();
      if (this.#stalled || !this.#receive()) return;
    }
    this.#windDown();
  }

  #rest(): void {
    this.#resting = true;
    setImmediate(() => {
      this.#resting = false;
      this.pump();
    });
  }

  /** The peer takes more replies. */
  writable(): void {
    if (this.#state === 'ended' || !this.#blocked) return;
    this.#blocked = false;
    this.#channel.wantWritable(false);
    this.pump();
  }

  /** Takes no requests while `drained`. */
  setDrained(drained: boolean): void {
    this.#drained = drained;
    if (!drained) this.#wake();
  }

  get requestsInFlight(): number {
    return this.#inFlight;
  }

  /** Carries out no more requests than are under way. */
  refuseRequests(): void {
    this.#refusing = true;
  }

  /** Ends without an answer to anything; onIdle follows. */
  stop(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#releaseRoom();
    this.#reportIdle();
  }

  forgetData(): void {
    this.#options.target.forgetData();
  }

  sendCached(
    area: { readonly offset: number; readonly length: number },
    headerSize: number,
    head: (buffer: IoBuffer, at: number) => void,
  ): boolean {
    if (this.#channel.sendFile === undefined || this.#state === 'ended') return false;
    const range = this.backend.cachedRange(area.offset, area.length);
    if (range === undefined) return false;
    // What is there already goes first. A connection that turns out to be gone needs no reply.
    if (!this.#flush()) return this.#endedNow();
    const header = { size: headerSize, write: head };
    try {
      return this.output.sendFile(this.#channel, header, range, area.length);
    } catch (error) {
      // Part of the reply may have left: there is no way back into step.
      this.#abort(`Failed to send reply: ${this.#failures.write}: ${reasonOf(error)}`);
      return true;
    }
  }

  takePipe(length: number): DataPipe | undefined {
    if (this.#channel.sendFrom === undefined || this.#state === 'ended') return undefined;
    return this.#options.pipes.take(length, this.output.length);
  }

  /** An empty pipe for the data of a write that are about to be received, if they may leave from one. */
  #takePipeToWrite(length: number): DataPipe | undefined {
    if (this.#channel.receiveInto === undefined || !this.backend.writesFromPipe) return undefined;
    return this.#options.pipes.take(length, this.#bytesInFlight);
  }

  room(): MaybePromise<void> {
    return this.output.length < SEND_FROM ? undefined : this.#waitForRoom();
  }

  async #waitForRoom(): Promise<void> {
    while (this.#state !== 'ended' && this.output.length >= SEND_FROM) {
      if (!this.#blocked && this.#flush()) break;
      if (this.#endedNow()) break;
      await new Promise<void>((resolve) => {
        this.#waitingForRoom.push(resolve);
      });
    }
    if (this.#endedNow()) throw new CommandError(errno.EPIPE, 'connection closed');
  }

  get #failures(): ChannelFailures {
    return this.#channel.failures ?? socketFailures;
  }

  #endedNow(): boolean {
    return this.#state === 'ended';
  }

  #full(): boolean {
    return this.#inFlight >= MAX_REQUESTS_IN_FLIGHT || this.#drained;
  }

  #hasMemoryFor(row: CommandRow | undefined, request: NbdRequest): boolean {
    if (this.#bytesInFlight === 0) return true;
    const payload = hasPayload(row, request) ? footprint(request.length) : 0;
    const bytes = Math.max(payload, row?.memory(request) ?? 0);
    return this.#bytesInFlight + bytes <= MAX_BYTES_IN_FLIGHT;
  }

  #take(frame: Exclude<Frame, 'incomplete' | 'waiting'>): void {
    const { request, reason } = this.#reader;
    switch (frame) {
      case 'complete':
        this.#serve(request);
        break;
      case 'refused':
        this.#refuse(request, reason);
        break;
      case 'broken':
        this.#refuse(request, reason);
        this.#end(UNFINISHED);
        break;
      case 'disconnect':
        this.#end(undefined);
        break;
    }
  }

  /** Receives once. False when there is nothing to go on with. */
  #receive(): boolean {
    let received: number;
    const wasGathering = this.#gathering.end();
    try {
      received =
        !wasGathering && this.#maySkip() ? WOULD_BLOCK : this.#reader.receive(this.#isNews);
      if (received === WOULD_BLOCK && this.#mayPoll()) received = this.#poll.again(this.#attempt);
    } catch (error) {
      this.#abort(this.#readFailure(`${this.#failures.read}: ${reasonOf(error)}`));
      return false;
    }
    this.#isNews = false;
    if (received === 0) {
      this.#endOfStream();
      return true;
    }
    if (received === WOULD_BLOCK) {
      this.#wantReadable(!this.#gathering.begin(this.#quick));
      // In this order, so that the pool gives each the buffer that it had before.
      this.output.releaseIdle();
      this.#options.input.releaseIdle();
      return false;
    }
    return true;
  }

  /** All that there was has been received, and for requests under way the event loop has its turn in any case. */
  #maySkip(): boolean {
    return this.#inFlight > 0 && this.#reader.emptied && !this.#isNews;
  }

  /** A peer that has sent one request alone waits for its answer before it sends another; and data come without a break. */
  #mayPoll(): boolean {
    const { turns } = this.#options;
    if (this.#taken > 0) this.#singles = this.#taken === 1 ? this.#singles + 1 : 0;
    this.#taken = 0;
    if (this.#inFlight > 0) return false;
    return (
      (this.#singles >= SINGLES || this.#reader.inData) &&
      turns.alone &&
      this.#channel.unbuffered === true
    );
  }

  #endOfStream(): void {
    if (this.#reader.inData) {
      this.#end(this.#readFailure('Unexpected end-of-file before all data were read'));
    } else if (this.#options.input.length > 0) {
      this.#end('Unexpected end-of-file before all bytes were read');
    } else {
      this.#end(undefined);
    }
  }

  #readFailure(text: string): string {
    return this.#reader.inData ? `Failed to read CMD_WRITE data: ${text}` : text;
  }

  /** Carries out a request that is there completely. */
  #serve(request: NbdRequest): void {
    const { row } = this.#reader;
    const text = this.#refusing ? RETIRED : refusal(row, request, this);
    if (text !== undefined || row === undefined) {
      this.#refuse(request, text ?? '', this.#refusing ? NBD_ESHUTDOWN : NBD_EINVAL);
      this.#reader.done();
      return;
    }
    if (request.type !== NBD_CMD_READ && !this.backend.node.active) {
      this.#refuse(request, INACTIVE, NBD_EPERM);
      this.#reader.done();
      return;
    }
    try {
      const outcome = row.run(this, request);
      if (outcome !== undefined && outcome !== 'done') {
        this.#goesOn(row, request, outcome);
        return;
      }
      if (row.reply === 'done') replyDone(this, request);
      this.#traffic.succeeded(request.type, request.length);
    } catch (error) {
      this.#fail(row, request, error);
    }
    this.#reader.done();
  }

  /** The request that was taken is not done yet. */
  #goesOn(row: CommandRow, request: NbdRequest, outcome: Promise<void> | 'later'): void {
    const { underWay } = this;
    this.underWay = this.#spare.pop() ?? new UnderWay(this.#onEnded);
    underWay.row = row;
    underWay.isQuick = outcome === 'later' && request.length <= QUICK_SIZE;
    underWay.bytes = row.memory(request);
    this.#reader.keep(underWay);
    this.#inFlight++;
    this.#bytesInFlight += underWay.bytes;
    if (this.#inFlight > 1) this.#singles = 0;
    if (underWay.isQuick) this.#quick++;
    if (outcome !== 'later') tell(outcome, underWay);
  }

  #ended(ended: UnderWay, error: unknown): void {
    const { request, row } = ended;
    try {
      if (error === undefined) {
        if (row?.reply === 'done' && this.#state !== 'ended') replyDone(this, request);
        this.#traffic.succeeded(request.type, request.length);
      } else if (this.#state !== 'ended') {
        this.#fail(row as CommandRow, request, error);
      }
    } catch (fault) {
      this.#options.onFault(fault);
    }
    this.#reader.release(ended);
    this.#inFlight--;
    if (ended.isQuick) this.#quick--;
    this.#bytesInFlight -= ended.bytes;
    this.#spare.push(ended);
    this.#wake();
  }

  /** Answers a request that must not be carried out. */
  #refuse(request: NbdRequest, text: string, wireError = NBD_EINVAL): void {
    const structured = this.structuredReply;
    this.#traffic.failed();
    replyError(this, request, { wireError, text, structured });
  }

  /** Answers a request that failed. What is no failure of a request is thrown on. */
  #fail(row: CommandRow, request: NbdRequest, error: unknown): void {
    let text = row.failure;
    if (error instanceof CommandError) text = error.message;
    else if (!(error instanceof IoError)) throw error;
    const structured = this.structuredReply;
    this.#traffic.failed();
    replyError(this, request, { wireError: wireErrorOf(error.errno), text, structured });
  }

  /** Sends what there is. False when nothing more can be done for now. */
  #flush(): boolean {
    if (this.#blocked) return false;
    if (this.output.length === 0) return true;
    try {
      if (this.output.flush(this.#channel)) {
        this.#releaseRoom();
        return true;
      }
    } catch (error) {
      const reason = `Failed to send reply: ${this.#failures.write}: ${reasonOf(error)}`;
      this.#abort(this.#state === 'ending' ? this.#endReason : reason);
      return false;
    }
    this.#blocked = true;
    this.#wantReadable(false);
    this.#channel.wantWritable(true);
    return false;
  }

  #releaseRoom(): void {
    for (const resolve of this.#waitingForRoom.splice(0)) resolve();
  }

  #wantReadable(want: boolean): void {
    if (want === this.#readable) return;
    this.#readable = want;
    this.#channel.wantReadable(want);
  }

  /** Goes on soon: requests that end at the same time are answered together. */
  #wake(): void {
    if (this.#awake) return;
    this.#awake = true;
    queueMicrotask(() => {
      this.#awake = false;
      if (this.#state === 'ended') this.#reportIdle();
      else this.pump();
    });
  }

  /** Takes no more requests; what is under way is still answered. */
  #end(reason: string | undefined): void {
    if (this.#state !== 'serving') return;
    this.#state = 'ending';
    this.#endReason = reason;
    this.#wantReadable(false);
  }

  #windDown(): void {
    if (this.#state !== 'ending' || this.#inFlight > 0 || this.output.length > 0) return;
    this.#abort(this.#endReason);
  }

  /** Over, with replies possibly unsent. */
  #abort(reason: string | undefined): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#releaseRoom();
    this.#options.onEnd(reason);
    this.#reportIdle();
  }

  #reportIdle(): void {
    if (this.#inFlight > 0 || this.#idleReported) return;
    this.#idleReported = true;
    this.#gathering.close();
    this.#reader.discard();
    this.output.discard();
    this.#options.onIdle();
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof IoError) return error.reason;
  throw error;
}
