// One connection in the transmission phase: requests out, replies in, until one side ends it. It knows nothing of others
// before or after it.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import type { ByteChannel } from '../../../net/byte-channel.ts';
import type { ClientRequest } from './client-request.ts';
import type { ServerInfo } from './negotiation.ts';
import { ServerFault } from './reply-chunks.ts';
import { ReplyReader } from './reply-reader.ts';
import { RequestWriter } from './request-writer.ts';

/** Requests under way at once: the reference's number, which servers are used to. */
export const MAX_REQUESTS = 16;

/** Bytes that do not wait for other requests of the same go. */
const SEND_FROM = 128 * 1024;

/** Why a connection is no more: it broke, or the server did what no server may do. */
export type ConnectionEnd =
  | { readonly why: 'lost'; readonly reason: string }
  | { readonly why: 'fault'; readonly reason: string };

export interface ConnectionOptions {
  readonly channel: ByteChannel;
  readonly info: ServerInfo;
  readonly allocate: (length: number) => IoBuffer;
  /** Another request may be submitted. */
  readonly onRoom: () => void;
  /** It has ended by itself, with these requests under way, the oldest first. */
  readonly onEnd: (end: ConnectionEnd, unanswered: readonly ClientRequest[]) => void;
}

export class NbdConnection {
  readonly info: ServerInfo;
  readonly #options: ConnectionOptions;
  readonly #channel: ByteChannel;
  readonly #writer: RequestWriter;
  readonly #reader: ReplyReader;
  readonly #slots: (ClientRequest | undefined)[] = Array.from({ length: MAX_REQUESTS });
  readonly #free: number[] = Array.from({ length: MAX_REQUESTS }, (_, index) => index);
  /** Counts requests, so that no cookie is used again soon. */
  #count = 0;
  #flushPlanned = false;
  #ended = false;

  constructor(options: ConnectionOptions) {
    const { channel, info, allocate } = options;
    this.#options = options;
    this.#channel = channel;
    this.info = info;
    const extended = info.headers === 'extended';
    this.#writer = new RequestWriter({ extended, requests: MAX_REQUESTS, allocate });
    this.#reader = new ReplyReader({
      ...info,
      allocate,
      find: (high, low) => this.#find(high, low),
      finished: (request) => this.#finished(request),
    });
    channel.onReadable = () => this.#guarded(() => this.#receive());
    channel.onWritable = () => this.#guarded(() => this.#flush());
    channel.wantReadable(true);
  }

  get hasRoom(): boolean {
    return this.#free.length > 0;
  }

  /** Whether the data of a write may be in a pipe. */
  get sendsFromPipes(): boolean {
    return this.#channel.sendFrom !== undefined;
  }

  /** Sends a request; there must be room for it. Requests made in one go leave together. */
  submit(request: ClientRequest): void {
    const slot = this.#free.pop();
    if (slot === undefined) throw new Error('No room for another request');
    this.#slots[slot] = request;
    this.#count = (this.#count + 1) >>> 0;
    request.cookieHigh = this.#count;
    request.cookieLow = slot;
    this.#writer.add(request);
    this.#reader.expect(request);
    if (this.#writer.unsent >= SEND_FROM) this.#flushEarly();
    if (this.#flushPlanned || this.#ended) return;
    this.#flushPlanned = true;
    queueMicrotask(() => {
      this.#flushPlanned = false;
      if (!this.#ended) this.#guarded(() => this.#flush());
    });
  }

  /** Takes leave of the server. No request may be under way. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#writer.addDisconnect();
    try {
      this.#writer.flush(this.#channel);
    } catch {
      // It is gone already.
    }
    this.#channel.close();
  }

  #receive(): void {
    if (!this.#reader.pump(this.#channel)) this.#end({ why: 'lost', reason: 'Connection closed' });
  }

  /** While the server takes these, more can come. */
  #flushEarly(): void {
    try {
      this.#flush();
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      // The flush that is planned meets it again. The connection ends by that: neither amid replies nor in submit().
    }
  }

  #flush(): void {
    this.#channel.wantWritable(!this.#writer.flush(this.#channel));
  }

  #find(high: number, low: number): ClientRequest {
    const request = this.#slots[low];
    if (request === undefined || request.cookieHigh !== high) {
      throw new ServerFault('Protocol error: reply to a request that was not made');
    }
    // Its data would still have to stay as they are.
    if (!this.#writer.hasSent(request)) {
      throw new ServerFault('Protocol error: reply to a request that was not sent completely');
    }
    return request;
  }

  #finished(request: ClientRequest): void {
    this.#slots[request.cookieLow] = undefined;
    this.#free.push(request.cookieLow);
    request.finish();
    this.#options.onRoom();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof ServerFault) this.#faulty(error);
      else if (error instanceof IoError) this.#end({ why: 'lost', reason: error.reason });
      else throw error;
    }
  }

  /** As in the reference the request whose reply is wrong fails otherwise than those that get none. */
  #faulty({ message }: ServerFault): void {
    const { answered } = this.#reader;
    if (answered !== undefined) this.#slots[answered.cookieLow] = undefined;
    this.#end({ why: 'fault', reason: message });
    // Whoever is told may make another request, for which it must be over.
    answered?.fail(errno.EINVAL);
  }

  #end(end: ConnectionEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#channel.close();
    const unanswered = this.#slots
      .filter((request) => request !== undefined)
      .sort((one, other) => one.sentAt - other.sentAt);
    this.#options.onEnd(end, unanswered);
  }
}
