// An NBD client that sends what it is told, right or wrong, and takes apart what comes back. Knows nothing of src/, so that
// both sides cannot be wrong together; works against any server that listens on a unix socket.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';

export const REQUEST_MAGIC = 0x25609513;
const SIMPLE_MAGIC = 0x67446698;
const CHUNK_MAGIC = 0x668e33ef;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;

/** Options by their names in the specification. */
export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

/** Commands by their names in the specification. */
export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_BLOCK_SIZE_REQD: 0x80000008,
} as const;

export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const;

export const CHUNK = { NONE: 0, OFFSET_DATA: 1, OFFSET_HOLE: 2, BLOCK_STATUS: 5, ERROR: 0x8001 };

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export interface Request {
  readonly magic?: number;
  readonly flags?: number;
  readonly type: number;
  readonly cookie?: bigint;
  readonly offset?: number | bigint;
  readonly length?: number;
  /** Sent behind the header, whatever `length` says. */
  readonly payload?: Buffer;
}

export type Reply =
  | {
      readonly kind: 'simple';
      readonly cookie: bigint;
      readonly error: number;
      readonly data: Buffer;
    }
  | {
      readonly kind: 'chunk';
      readonly cookie: bigint;
      readonly done: boolean;
      readonly type: number;
      readonly data: Buffer;
    };

/** The server ended the stream when more was expected. */
export class EndOfStream extends Error {
  override readonly name = 'EndOfStream';
}

export class NbdWireClient {
  #socket: Socket;
  #received: Buffer[] = [];
  #available = 0;
  #ended = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen(socket);
  }

  #listen(socket: Socket): void {
    socket.on('data', (bytes) => {
      this.#received.push(bytes);
      this.#available += bytes.length;
      this.#wake();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    socket.on('end', end);
    socket.on('error', end);
    socket.on('close', end);
  }

  /** Connects, without a word. */
  static async connect(path: string): Promise<NbdWireClient> {
    const socket = connect({ path, allowHalfOpen: true });
    const client = new NbdWireClient(socket);
    await once(socket, 'connect');
    return client;
  }

  /** Connects and exchanges greetings. */
  static async greeted(path: string, clientFlags = 3): Promise<NbdWireClient> {
    const client = await NbdWireClient.connect(path);
    await client.receive(18);
    client.send(u32(clientFlags));
    return client;
  }

  /** In transmission with an export. */
  static async ready(path: string, options: ReadyOptions = {}): Promise<NbdWireClient> {
    const client = await NbdWireClient.greeted(path);
    const name = options.name ?? '';
    if (options.structured !== false) await client.option(OPT.STRUCTURED_REPLY);
    if (options.contexts !== undefined) {
      await client.option(OPT.SET_META_CONTEXT, metaQuery(name, options.contexts));
    }
    await client.option(OPT.GO, infoRequest(name));
    return client;
  }

  /** Begins TLS; what was received before stays out of it. Rejects when the handshake fails. */
  async startTls(identity: ConnectionOptions): Promise<void> {
    this.#socket.removeAllListeners('data');
    const secured = connectTls({ ...identity, socket: this.#socket });
    await once(secured, 'secureConnect');
    this.#socket = secured;
    this.#listen(secured);
  }

  send(...parts: readonly Buffer[]): void {
    this.#socket.write(Buffer.concat(parts));
  }

  /** Says that nothing more will come, and still listens. */
  endSending(): void {
    this.#socket.end();
  }

  /** The next `length` bytes. Rejects EndOfStream. */
  async receive(length: number): Promise<Buffer> {
    while (this.#available < length) {
      if (this.#ended) {
        throw new EndOfStream(`stream ended after ${this.#available} of ${length} bytes`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(length)];
    this.#available -= length;
    return all.subarray(0, length);
  }

  /** Leaves what the server sends in the socket until resume(). */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Everything up to the end of the stream. */
  async receiveRest(): Promise<Buffer> {
    while (!this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return Buffer.concat(this.#received);
  }

  /** Sends an option and collects its replies, up to the acknowledgement or an error. */
  async option(option: number, data: Buffer = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.sendOption(option, data);
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === REP.ACK || reply.type >= 0x80000000) return replies;
    }
  }

  sendOption(option: number, data: Buffer = Buffer.alloc(0), length = data.length): void {
    this.send(Buffer.from('IHAVEOPT'), u32(option), u32(length), data);
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.receive(20);
    const magic = header.readBigUInt64BE(0);
    if (magic !== OPTION_REPLY_MAGIC) throw new Error(`option reply magic ${magic.toString(16)}`);
    const data = await this.receive(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  sendRequest(request: Request): void {
    this.send(encodeRequest(request));
  }

  /** Sends a request and collects its reply; `data` bytes follow a simple reply that is no error. */
  async request(request: Request, data = 0): Promise<Reply[]> {
    this.sendRequest(request);
    const replies: Reply[] = [];
    for (;;) {
      const reply = await this.reply(data);
      replies.push(reply);
      if (reply.kind === 'simple' || reply.done) return replies;
    }
  }

  /** One simple reply or one chunk. */
  async reply(data = 0): Promise<Reply> {
    const magic = (await this.receive(4)).readUInt32BE(0);
    if (magic === SIMPLE_MAGIC) {
      const header = await this.receive(12);
      const error = header.readUInt32BE(0);
      const cookie = header.readBigUInt64BE(4);
      return { kind: 'simple', cookie, error, data: await this.receive(error === 0 ? data : 0) };
    }
    if (magic !== CHUNK_MAGIC) throw new Error(`reply magic ${magic.toString(16)}`);
    const header = await this.receive(16);
    return {
      kind: 'chunk',
      done: (header.readUInt16BE(0) & 1) !== 0,
      type: header.readUInt16BE(2),
      cookie: header.readBigUInt64BE(4),
      data: await this.receive(header.readUInt32BE(12)),
    };
  }

  close(): void {
    this.#socket.destroy();
  }
}

export interface ReadyOptions {
  readonly name?: string;
  /** Default: true. */
  readonly structured?: boolean;
  readonly contexts?: readonly string[];
}

export function encodeRequest(request: Request): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(request.magic ?? REQUEST_MAGIC, 0);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.type, 6);
  header.writeBigUInt64BE(request.cookie ?? 77n, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  header.writeUInt32BE(request.length ?? request.payload?.length ?? 0, 24);
  return Buffer.concat([header, request.payload ?? Buffer.alloc(0)]);
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export function infoRequest(name: string | Buffer, infos: readonly number[] = []): Buffer {
  return Buffer.concat([text(name), u16(infos.length), ...infos.map(u16)]);
}

/** The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export function metaQuery(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([text(name), u32(queries.length), ...queries.map((query) => text(query))]);
}

/** A string behind its length. */
export function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u32(bytes.length), bytes]);
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** The error number and text of an error reply of either kind. */
export function errorOf(reply: Reply | undefined): { error: number; text: string } | undefined {
  if (reply?.kind === 'simple') return { error: reply.error, text: '' };
  if (reply?.type !== CHUNK.ERROR) return undefined;
  return { error: reply.data.readUInt32BE(0), text: reply.data.toString('utf8', 6) };
}
