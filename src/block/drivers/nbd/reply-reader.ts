// Takes replies out of the stream: headers and small payloads by way of a buffer, the data of large reads straight to where
// they belong, or into a pipe for whoever sends them on. Every rule that a server may break is checked here or in reply-chunks.ts.

import type { IoBuffer } from '../../../base/io-buffer.ts';
import { type ByteChannel, WOULD_BLOCK } from '../../../net/byte-channel.ts';
import { decodeReply, ReplyHeader, replySizeOf } from '../../../net/nbd/client-wire.ts';
import {
  CHUNK_SIZE,
  EXTENDED_CHUNK_SIZE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  OFFSET_DATA_SIZE,
  SIMPLE_REPLY_SIZE,
} from '../../../net/nbd/protocol.ts';
import { u64 } from '../../../net/nbd/wire.ts';
import type { ClientRequest } from './client-request.ts';
import type { Headers } from './negotiation.ts';
import {
  acceptChunk,
  checkData,
  checkDataLength,
  checkFinished,
  checkPayloadLength,
  type ReplyRules,
  ServerFault,
} from './reply-chunks.ts';
import { errnoOf } from './wire-errno.ts';

/** Bytes received at once, where replies are small. */
const BUFFER_SIZE = 128 * 1024;
/** From this size on data go straight to their place; smaller ones are copied, which costs less than another system call. */
const DIRECT_SIZE = 16 * 1024;
/** Bytes received at once while data are to go straight to their place. */
const HEADERS_AT_ONCE = 4096;
/** Bytes in front of data. */
const dataHeaders = {
  simple: SIMPLE_REPLY_SIZE,
  structured: CHUNK_SIZE + OFFSET_DATA_SIZE,
  extended: EXTENDED_CHUNK_SIZE + OFFSET_DATA_SIZE,
} as const satisfies Record<Headers, number>;
/** Large reads without a pipe after one whose pipe did not take all data: what came in small pieces once may come so again. */
const READS_WITHOUT_PIPE = 64;
/** Bytes worked off before others have their turn: those who wait for the data among them, who then go on meanwhile. */
const BYTES_PER_TURN = 256 * 1024;

export interface ReplyReaderOptions extends ReplyRules {
  readonly headers: Headers;
  readonly allocate: (length: number) => IoBuffer;
  /** The request that a reply is for. Throws ServerFault when there is none. */
  readonly find: (cookieHigh: number, cookieLow: number) => ClientRequest;
  /** The reply is complete. */
  readonly finished: (request: ClientRequest) => void;
}

export class ReplyReader {
  readonly #options: ReplyReaderOptions;
  readonly #buffer: IoBuffer;
  readonly #usualMagic: number;
  #start = 0;
  #end = 0;
  readonly #header = new ReplyHeader();
  /** Whose reply is being received, beyond its header. */
  #request: ClientRequest | undefined;
  #answered: ClientRequest | undefined;
  /** Its data: where they go, and how many bytes are missing. */
  #to = 0;
  #missing = 0;
  /** They are all that was asked for. */
  #isWhole = false;
  /** Bytes that could have been received last. */
  #asked = 0;
  /** Requests under way, and those among them whose data are large. */
  #expected = 0;
  #large = 0;
  /** The channel has reported bytes, of which none were received yet. */
  #isNews = false;
  /** Large reads whose data go to memory in any case. */
  #withoutPipe = 0;

  constructor(options: ReplyReaderOptions) {
    this.#options = options;
    this.#buffer = options.allocate(BUFFER_SIZE);
    this.#usualMagic = magics[options.headers].at(-1) as number;
  }

  /** The request that the last header was for; undefined when it was for none. */
  get answered(): ClientRequest | undefined {
    return this.#answered;
  }

  /** A reply to this request may come from now on. */
  expect(request: ClientRequest): void {
    this.#expected++;
    if (request.isRead && request.length >= DIRECT_SIZE) this.#large++;
  }

  /** Works off what the channel has reported. False at the end of the stream. Throws ServerFault, and IoError of the channel. */
  pump(channel: ByteChannel): boolean {
    this.#isNews = true;
    for (let budget = BYTES_PER_TURN; budget > 0; ) {
      if (this.#advance()) continue;
      const received = this.#receive(channel);
      this.#isNews = false;
      if (received === WOULD_BLOCK) return true;
      if (received === 0) return false;
      budget -= received;
      // There was no more than that: what comes next is reported.
      if (received < this.#asked) {
        while (this.#advance());
        return true;
      }
    }
    return true;
  }

  /** Takes the next piece of a reply out of the buffer; false when more has to be received first. */
  #advance(): boolean {
    if (this.#missing > 0) return this.#takeData();
    return this.#request === undefined ? this.#takeHeader() : this.#takePayload(this.#request);
  }

  #receive(channel: ByteChannel): number {
    const request = this.#request;
    if (request?.buffer !== undefined && this.#isDirect(request)) {
      this.#asked = this.#missing;
      const received = this.#receiveData(channel, request, request.buffer);
      if (received > 0) this.#took(received);
      return received;
    }
    this.#makeRoom();
    const room = Math.min(BUFFER_SIZE - this.#end, this.#limit());
    this.#asked = room;
    const received = channel.receive(this.#buffer, this.#end, room);
    if (received > 0) this.#end += received;
    return received;
  }

  /** Bytes to receive at once with the next header: data that are large shall stay where they are. */
  #limit(): number {
    if (this.#large === 0) return BUFFER_SIZE;
    return this.#large < this.#expected ? HEADERS_AT_ONCE : dataHeaders[this.#options.headers];
  }

  /** What is in a pipe must be the last of the data. */
  #isDirect(request: ClientRequest): boolean {
    return this.#missing >= DIRECT_SIZE || (this.#missing > 0 && request.pipe !== undefined);
  }

  /** To the request's pipe, if there may be one, or to where the data belong. */
  #receiveData(channel: ByteChannel, request: ClientRequest, buffer: IoBuffer): number {
    const mayPipe = this.#isWhole && this.#withoutPipe === 0 && channel.receiveInto !== undefined;
    const pipe = mayPipe ? request.takePipe(this.#to - request.at) : request.pipe;
    if (pipe === undefined) return channel.receive(buffer, this.#to, this.#missing);
    const moved = channel.receiveInto?.(pipe, this.#missing) ?? WOULD_BLOCK;
    // There was something: that the pipe does not take it has other reasons.
    if (moved !== WOULD_BLOCK || !this.#isNews) return moved;
    const received = channel.receive(buffer, this.#to, this.#missing);
    if (received > 0) {
      request.leavePipe(this.#to);
      this.#withoutPipe = READS_WITHOUT_PIPE;
    }
    return received;
  }

  #makeRoom(): void {
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    } else if (this.#end > BUFFER_SIZE / 2) {
      this.#buffer.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
  }

  #takeHeader(): boolean {
    const { view } = this.#buffer;
    const available = this.#end - this.#start;
    if (available < 4) return false;
    this.#answered = undefined;
    const magic = view.getUint32(this.#start);
    const size = replySizeOf(magic);
    if (size === undefined) throw new ServerFault(`invalid magic (got 0x${magic.toString(16)})`);
    if (available < size) return false;
    const header = this.#header;
    decodeReply(view, this.#start, header);
    this.#start += size;
    if (magic !== this.#usualMagic) checkKind(magic, this.#options.headers);
    const request = this.#options.find(header.cookieHigh, header.cookieLow);
    this.#answered = request;
    if (size === EXTENDED_CHUNK_SIZE && header.offset !== request.offset) {
      throw new ServerFault('Protocol error: chunk of another offset than its request');
    }
    if (magic === NBD_SIMPLE_REPLY_MAGIC) {
      this.#simpleReply(request, header.error);
      return true;
    }
    request.isStructured = true;
    if (header.type === NBD_REPLY_TYPE_OFFSET_DATA) checkDataLength(request, header);
    else checkPayloadLength(request, header);
    this.#request = request;
    return true;
  }

  #simpleReply(request: ClientRequest, error: number): void {
    const needsChunks = request.isRead && this.#options.headers !== 'simple';
    if (request.isStructured || needsChunks) {
      throw new ServerFault(
        'Protocol error: simple reply when structured reply chunk was expected',
      );
    }
    if (error !== 0) request.failure = errnoOf(error);
    if (error !== 0 || !request.isRead) {
      this.#finish(request);
      return;
    }
    this.#request = request;
    this.#to = request.at;
    this.#missing = request.length;
    this.#isWhole = true;
  }

  /** What follows the header of a chunk: the offset of data, or everything else that is not data. */
  #takePayload(request: ClientRequest): boolean {
    const header = this.#header;
    const isData = header.type === NBD_REPLY_TYPE_OFFSET_DATA;
    const size = isData ? OFFSET_DATA_SIZE : header.length;
    if (this.#end - this.#start < size) return false;
    const at = this.#start;
    this.#start += size;
    if (isData) {
      const offset = u64(this.#buffer.view, at);
      const length = header.length - OFFSET_DATA_SIZE;
      checkData(request, offset, length);
      this.#to = request.at + (offset - request.offset);
      this.#missing = length;
      this.#isWhole = length === request.length;
      return true;
    }
    acceptChunk({ request, header, view: this.#buffer.view, at, rules: this.#options });
    this.#chunkDone(request);
    return true;
  }

  #takeData(): boolean {
    const { buffer } = this.#request as ClientRequest;
    const length = Math.min(this.#missing, this.#end - this.#start);
    if (length === 0 || buffer === undefined) return false;
    this.#buffer.bytes.copy(buffer.bytes, this.#to, this.#start, this.#start + length);
    this.#start += length;
    this.#took(length);
    return true;
  }

  /** So many bytes of data are in their place. */
  #took(length: number): void {
    this.#to += length;
    this.#missing -= length;
    if (this.#missing > 0) return;
    const request = this.#request as ClientRequest;
    if (request.isStructured) this.#chunkDone(request);
    else this.#finish(request);
  }

  #chunkDone(request: ClientRequest): void {
    this.#request = undefined;
    if ((this.#header.flags & NBD_REPLY_FLAG_DONE) !== 0) this.#finish(request);
  }

  #finish(request: ClientRequest): void {
    this.#request = undefined;
    checkFinished(request);
    this.#expected--;
    if (request.isRead && request.length >= DIRECT_SIZE) {
      this.#large--;
      if (this.#withoutPipe > 0) this.#withoutPipe--;
    }
    this.#options.finished(request);
  }
}

const magics: Readonly<Record<Headers, readonly number[]>> = {
  simple: [NBD_SIMPLE_REPLY_MAGIC],
  structured: [NBD_SIMPLE_REPLY_MAGIC, NBD_STRUCTURED_REPLY_MAGIC],
  extended: [NBD_EXTENDED_REPLY_MAGIC],
};

function checkKind(magic: number, headers: Headers): void {
  if (magics[headers].includes(magic)) return;
  throw new ServerFault(
    `Protocol error: reply with magic 0x${magic.toString(16)}, which was not negotiated`,
  );
}
