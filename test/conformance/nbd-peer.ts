// The client's side of an NBD conversation, byte by byte: sends what it is told, right or wrong, and puts the answers into
// words that leave no byte out. https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md

import { createHash } from 'node:crypto';
import { connect as connectSocket, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import type { Heard, Request } from './case.ts';

export const NBDMAGIC = 0x4e42444d41474943n;
export const IHAVEOPT = 0x49484156454f5054n;
const NBD_REP_MAGIC = 0x3e889045565a9n;
const NBD_REQUEST_MAGIC = 0x25609513;
const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
const NBD_REP_ACK = 1;
const NBD_REPLY_FLAG_DONE = 1;
export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;

const ANSWER_LIMIT_MS = 30_000;
/** Silence that long is an answer, where bytes were sent that may get none. */
const SILENCE_MS = 1000;

export class NbdPeer {
  #socket: Socket;
  #chunks: Buffer[] = [];
  #available = 0;
  #closed = false;
  #wake: () => void = () => {};
  #cookie = 1;
  /** Set by EXPORT_NAME and GO: what a simple reply to a read carries. */
  structured = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen(socket);
  }

  #listen(socket: Socket): void {
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#available += chunk.length;
      this.#wake();
    });
    const end = (): void => {
      this.#closed = true;
      this.#wake();
    };
    socket.on('error', end);
    socket.on('end', end);
    socket.on('close', end);
  }

  /** Goes on under TLS. What comes of it: the version, or that there is none. */
  async startTls(options: ConnectionOptions): Promise<string> {
    this.#socket.removeAllListeners('data');
    const secured = connectTls({ ...options, socket: this.#socket });
    const outcome = await new Promise<string>((resolve) => {
      secured.once('secureConnect', () => resolve(`tls ${secured.getProtocol()}`));
      secured.once('error', () => resolve('<no tls>'));
      secured.once('close', () => resolve('<no tls>'));
    });
    this.#socket = secured;
    this.#listen(secured);
    return outcome;
  }

  /** Wants another handshake in the middle of TLS 1.2: what comes of it. */
  async handshakeAgain(): Promise<string> {
    const secured = this.#socket as TLSSocket;
    return new Promise((resolve) => {
      secured.once('error', () => resolve('<refused>'));
      secured.once('close', () => resolve('<refused>'));
      secured.renegotiate({}, (error) => resolve(error === null ? 'done' : '<refused>'));
    });
  }

  static async connect(path: string | { host: string; port: number }): Promise<NbdPeer> {
    const socket = typeof path === 'string' ? connectSocket(path) : connectSocket(path);
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.setNoDelay(true);
    return new NbdPeer(socket);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Even a write of nothing fails when the server has gone, and its last words would not be read: there is none. */
  send(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#socket.write(bytes);
  }

  /** Reads nothing any more: the server's output has nowhere to go. */
  pause(): void {
    this.#socket.pause();
  }

  /** Says that nothing more will come; what is sent back still arrives. */
  endSending(): void {
    this.#socket.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The server's greeting, answered with the client's flags. */
  async greet(flags: number): Promise<string> {
    const greeting = await this.take(18);
    if (greeting === undefined) return this.#gone();
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(flags);
    this.send(answer);
    return `greeting ${greeting.toString('hex')}`;
  }

  sendOption(option: number, payload: Uint8Array, magic = IHAVEOPT, claims = payload.length): void {
    const header = Buffer.alloc(16);
    header.writeBigUInt64BE(magic);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(claims, 12);
    this.send(Buffer.concat([header, payload]));
  }

  /** Replies to an option up to the one that ends them. */
  async optionReplies(): Promise<string[]> {
    const lines: string[] = [];
    for (;;) {
      const header = await this.take(20);
      if (header === undefined) return [...lines, this.#gone()];
      const magic = header.readBigUInt64BE();
      if (magic !== NBD_REP_MAGIC)
        return [...lines, `magic 0x${magic.toString(16)} in an option reply`];
      const option = header.readUInt32BE(8);
      const type = header.readUInt32BE(12);
      const payload = await this.take(header.readUInt32BE(16));
      if (payload === undefined) return [...lines, this.#gone()];
      if (option === 8 && type === NBD_REP_ACK) this.structured = true;
      lines.push(`option ${option} reply ${hex(type)} ${words(payload)}`.trimEnd());
      if (type === NBD_REP_ACK || type >= 0x80000000) return lines;
    }
  }

  /** EXPORT_NAME has no reply header: size, flags, zeroes. */
  async exportNameReply(zeroes: boolean): Promise<string> {
    const reply = await this.take(zeroes ? 134 : 10);
    if (reply === undefined) return this.#gone();
    const rest = reply.subarray(10);
    const tail = zeroes
      ? ` then ${rest.length} ${rest.every((byte) => byte === 0) ? 'zeroes' : 'bytes'}`
      : '';
    return `size ${reply.readBigUInt64BE()} flags ${hex(reply.readUInt16BE(8))}${tail}`;
  }

  /** Sends requests back to back; the answers in the order of the requests. */
  async requests(requests: readonly Request[]): Promise<string[]> {
    const open = new Map<bigint, { request: Request; lines: string[]; done: boolean }>();
    const packets: Uint8Array[] = [];
    for (const request of requests) {
      const cookie = 0xc0de000000000000n + BigInt(this.#cookie++);
      packets.push(encodeRequest(request, cookie));
      if (request.type !== NBD_CMD_DISC) open.set(cookie, { request, lines: [], done: false });
    }
    this.send(Buffer.concat(packets));
    const stray: string[] = [];
    const isOpen = (): boolean => [...open.values()].some((entry) => !entry.done);
    while (isOpen()) {
      const chunk = await this.#reply(open);
      if (chunk !== undefined) {
        stray.push(chunk);
        break;
      }
    }
    if (open.size === 0) stray.push(...(await this.listen('the end')));
    return [...[...open.values()].flatMap((entry) => entry.lines), ...stray];
  }

  /** The bytes of one read, where replies are simple. Throws on an error. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.send(encodeRequest({ type: NBD_CMD_READ, offset, length }, 1n));
    const header = await this.take(16);
    if (header === undefined || header.readUInt32BE(4) !== 0)
      throw new Error(`no read at ${offset}`);
    const payload = await this.take(length);
    if (payload === undefined) throw new Error(`a read at ${offset} ended early`);
    return payload;
  }

  async #reply(
    open: Map<bigint, { request: Request; lines: string[]; done: boolean }>,
  ): Promise<string | undefined> {
    const magicBytes = await this.take(4);
    if (magicBytes === undefined) return this.#gone();
    const magic = magicBytes.readUInt32BE();
    if (magic === NBD_SIMPLE_REPLY_MAGIC) {
      const header = await this.take(12);
      if (header === undefined) return this.#gone();
      const error = header.readUInt32BE();
      const entry = open.get(header.readBigUInt64BE(4));
      if (entry === undefined)
        return `simple reply with an unknown cookie ${header.toString('hex', 4)}`;
      const isRead = entry.request.type === NBD_CMD_READ && error === 0;
      const payload = await this.take(isRead ? (entry.request.length ?? 0) : 0);
      if (payload === undefined) return this.#gone();
      entry.lines.push(`simple error ${error} ${words(payload)}`.trimEnd());
      entry.done = true;
      return undefined;
    }
    if (magic !== NBD_STRUCTURED_REPLY_MAGIC) return `magic ${hex(magic)} in a reply`;
    const header = await this.take(16);
    if (header === undefined) return this.#gone();
    const flags = header.readUInt16BE();
    const type = header.readUInt16BE(2);
    const entry = open.get(header.readBigUInt64BE(4));
    if (entry === undefined) return `chunk with an unknown cookie ${header.toString('hex', 4, 12)}`;
    const payload = await this.take(header.readUInt32BE(12));
    if (payload === undefined) return this.#gone();
    entry.lines.push(chunkText(flags, type, payload));
    entry.done = (flags & NBD_REPLY_FLAG_DONE) !== 0;
    return undefined;
  }

  /** What comes of its own, as hex, or that nothing or the end came; at most `limitMs` are waited. */
  async listen(hears: Heard, limitMs = ANSWER_LIMIT_MS): Promise<string[]> {
    const end = Date.now() + (hears === 'nothing' ? Math.min(SILENCE_MS, limitMs) : limitMs);
    const enough = typeof hears === 'number' ? hears : Infinity;
    while (!this.#closed && this.#available < enough && Date.now() < end) {
      await this.#news(end - Date.now());
    }
    const lines = this.#available > 0 ? [`bytes ${words(this.#cut(this.#available))}`] : [];
    if (this.#closed) return [...lines, '<closed>'];
    return lines.length > 0 ? lines : ['<nothing>'];
  }

  /** Exactly `length` bytes, or undefined when the connection ends or nothing comes for long. */
  async take(length: number, limitMs = ANSWER_LIMIT_MS): Promise<Buffer | undefined> {
    const end = Date.now() + limitMs;
    while (this.#available < length) {
      if (this.#closed || Date.now() >= end) return undefined;
      await this.#news(end - Date.now());
    }
    return this.#cut(length);
  }

  #cut(length: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
    const whole = all ?? Buffer.alloc(0);
    this.#chunks = whole.length > length ? [whole.subarray(length)] : [];
    this.#available = whole.length - length;
    return whole.subarray(0, length);
  }

  #gone(): string {
    return this.#closed ? '<closed>' : '<no answer>';
  }

  async #news(limitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }
}

export function encodeRequest(request: Request, cookie: bigint): Uint8Array {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(request.magic ?? NBD_REQUEST_MAGIC);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.type, 6);
  header.writeBigUInt64BE(cookie, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  header.writeUInt32BE(request.length ?? request.payload?.length ?? 0, 24);
  return request.payload === undefined ? header : Buffer.concat([header, request.payload]);
}

function chunkText(flags: number, type: number, payload: Buffer): string {
  const head = `chunk flags ${flags} type ${hex(type)}`;
  if (type >= 0x8000 && payload.length >= 6) {
    const text = payload.subarray(6, 6 + payload.readUInt16BE(4));
    const rest = payload.subarray(6 + text.length);
    return `${head} error ${payload.readUInt32BE()} ${words(text)} ${words(rest)}`.trimEnd();
  }
  if ((type === 1 || type === 2) && payload.length >= 8) {
    const at = payload.readBigUInt64BE();
    const rest = payload.subarray(8);
    return `${head} at ${at} ${type === 2 ? `length ${rest.readUInt32BE()}` : words(rest)}`;
  }
  if (type === 5 && payload.length >= 4) {
    const extents: string[] = [];
    for (let at = 4; at + 8 <= payload.length; at += 8) {
      extents.push(`${payload.readUInt32BE(at)}:${payload.readUInt32BE(at + 4)}`);
    }
    return `${head} context ${payload.readUInt32BE()} extents ${extents.join(' ')}`;
  }
  return `${head} ${words(payload)}`.trimEnd();
}

/** Text as text, short bytes as hex, one byte repeated as that, long bytes as a digest. */
export function words(payload: Buffer): string {
  if (payload.length === 0) return '';
  const text = payload.toString('latin1', 0, 300);
  if (payload.length < 300 && /^[\x20-\x7e]+$/.test(text)) return JSON.stringify(text);
  if (payload.length <= 64) return payload.toString('hex');
  const first = payload[0] ?? 0;
  if (payload.equals(Buffer.alloc(payload.length, first)))
    return `${payload.length} bytes of ${hex(first)}`;
  return `${payload.length} bytes sha256 ${createHash('sha256').update(payload).digest('hex')}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
