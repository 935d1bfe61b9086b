// What goes to the server: headers and small data by way of a buffer, so that requests made together leave together; large
// data straight from where they are.

import type { DataPipe } from '../../../base/data-pipe.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import { type ByteChannel, WOULD_BLOCK } from '../../../net/byte-channel.ts';
import { encodeRequest } from '../../../net/nbd/client-wire.ts';
import {
  EXTENDED_REQUEST_SIZE,
  NBD_CMD_DISC,
  NBD_CMD_WRITE,
  REQUEST_SIZE,
} from '../../../net/nbd/protocol.ts';
import { ClientRequest } from './client-request.ts';

/** Nobody waits for the answer to a request that has none. */
const nobody = { completed() {} };

/** Up to this size data are copied, which costs less than another system call. */
const COPIED_SIZE = 16 * 1024;

interface Payload {
  /** How many bytes of the buffer go before it, of all that ever went through it. */
  readonly after: number;
  /** Where the data are: in the pipe, if there is one. */
  readonly pipe: DataPipe | undefined;
  readonly buffer: IoBuffer;
  at: number;
  left: number;
}

export class RequestWriter {
  readonly #extended: boolean;
  readonly #buffer: IoBuffer;
  #start = 0;
  #end = 0;
  /** Bytes that ever left the buffer. */
  #passed = 0;
  readonly #payloads: Payload[] = [];
  /** Bytes of the stream: made so far, and taken by the channel. */
  #made = 0;
  #sent = 0;

  /** `requests`: how many may be under way at once. */
  constructor(options: {
    readonly extended: boolean;
    readonly requests: number;
    readonly allocate: (length: number) => IoBuffer;
  }) {
    this.#extended = options.extended;
    // One more for NBD_CMD_DISC.
    const size = (options.requests + 1) * (EXTENDED_REQUEST_SIZE + COPIED_SIZE);
    this.#buffer = options.allocate(size);
  }

  /** Bytes that wait to be sent. */
  get unsent(): number {
    return this.#made - this.#sent;
  }

  /** The server may know all of this request. */
  hasSent(request: ClientRequest): boolean {
    return request.sentAt <= this.#sent;
  }

  /** Adds a request. Until its reply is there, its data must stay as they are. */
  add(request: ClientRequest): void {
    const size = this.#extended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE;
    const { buffer: data, at, length, from: pipe } = request;
    const isWrite = request.type === NBD_CMD_WRITE && data !== undefined;
    const isCopied = isWrite && pipe === undefined && length <= COPIED_SIZE;
    this.#makeRoom(size + (isCopied ? length : 0));
    encodeRequest(this.#buffer.view, this.#end, request, this.#extended);
    this.#end += size;
    this.#made += size;
    if (isCopied) {
      data.bytes.copy(this.#buffer.bytes, this.#end, at, at + length);
      this.#end += length;
    } else if (isWrite) {
      const after = this.#passed + this.#end - this.#start;
      this.#payloads.push({ after, pipe, buffer: data, at, left: length });
    }
    if (isWrite) this.#made += length;
    request.sentAt = this.#made;
  }

  /** Adds the request to end the connection. */
  addDisconnect(): void {
    this.add(new ClientRequest({ type: NBD_CMD_DISC, flags: 0, offset: 0, length: 0 }, nobody));
  }

  /** Sends what there is. False when the channel takes no more for now. Throws IoError. */
  flush(channel: ByteChannel): boolean {
    for (;;) {
      const payload = this.#payloads[0];
      const before = payload === undefined ? this.#end - this.#start : payload.after - this.#passed;
      if (before > 0) {
        const sent = channel.send(this.#buffer, this.#start, before);
        if (sent === WOULD_BLOCK) return false;
        this.#start += sent;
        this.#passed += sent;
        this.#sent += sent;
      } else if (payload !== undefined) {
        const sent = sendData(channel, payload);
        if (sent === WOULD_BLOCK) return false;
        payload.at += sent;
        payload.left -= sent;
        this.#sent += sent;
        if (payload.left === 0) this.#payloads.shift();
      } else {
        this.#start = 0;
        this.#end = 0;
        return true;
      }
    }
  }

  /** Unsent requests are at most as many as may be under way, so there always is room. */
  #makeRoom(length: number): void {
    if (this.#end + length <= this.#buffer.bytes.length) return;
    this.#buffer.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }
}

function sendData(channel: ByteChannel, { pipe, buffer, at, left }: Payload): number {
  if (pipe === undefined) return channel.send(buffer, at, left);
  return channel.sendFrom?.(pipe) ?? WOULD_BLOCK;
}
