// The frontend's end of a vhost-user connection: sends any bytes with any descriptors, good or bad, and collects what the
// backend says.

import { IoError } from '../../../src/base/errors.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller, READABLE, type Watch, WRITABLE } from '../../../src/sys/poller.ts';
import { AF_UNIX, unixSockaddr } from '../../../src/sys/sockaddr.ts';
import {
  close,
  connect,
  finishConnect,
  shutdown,
  socket,
  WOULD_BLOCK,
} from '../../../src/sys/socket.ts';
import { encode, HEADER_LENGTH, type Message, NEED_REPLY, VERSION } from './messages.ts';
import { receiveWithDescriptors, sendWithDescriptors } from './shared-descriptors.ts';

export interface SendOptions {
  /** Header flags. Default: version 1. */
  readonly flags?: number;
  readonly descriptors?: readonly number[];
}

export class Frontend {
  /** Watches whatever belongs to this connection: the socket, event counters. */
  readonly poller: Poller;
  /** Resolves once the backend has ended the connection. */
  readonly ended: Promise<void>;
  readonly #fd: number;
  readonly #watch: Watch;
  readonly #buffer = allocate(65536);
  readonly #messages: Message[] = [];
  #input = Buffer.alloc(0);
  #descriptors: number[] = [];
  #waiting: ((message: Message | undefined) => void)[] = [];
  #over = false;
  #closed = false;
  #tellEnd!: () => void;

  private constructor(fd: number, poller: Poller) {
    this.#fd = fd;
    this.poller = poller;
    this.ended = new Promise((resolve) => {
      this.#tellEnd = resolve;
    });
    this.#watch = poller.watch(fd, () => this.#receive());
    this.#watch.want(READABLE);
  }

  static async connect(path: string): Promise<Frontend> {
    const fd = socket(AF_UNIX);
    const poller = new Poller();
    try {
      if (!connect(fd, unixSockaddr(path))) await writable(poller, fd);
    } catch (error) {
      poller.close();
      close(fd);
      throw error;
    }
    return new Frontend(fd, poller);
  }

  /** Sends one message. False when the backend has gone. */
  send(request: number, payload: Uint8Array = Buffer.alloc(0), options: SendOptions = {}): boolean {
    return this.sendBytes(encode(request, payload, options.flags ?? VERSION), options.descriptors);
  }

  /** Sends bytes as they are. False when the backend has gone. */
  sendBytes(bytes: Uint8Array, descriptors: readonly number[] = []): boolean {
    this.#buffer.bytes.set(bytes);
    try {
      const sent = sendWithDescriptors(this.#fd, this.#buffer.address, bytes.length, descriptors);
      if (sent !== bytes.length) throw new Error(`the backend reads no more: ${sent}`);
      return true;
    } catch (error) {
      if (error instanceof IoError) return false;
      throw error;
    }
  }

  /** Sends a message that has an answer, and waits for it. Throws when the connection ends instead. */
  async ask(request: number, payload?: Uint8Array, options?: SendOptions): Promise<Message> {
    this.send(request, payload, options);
    const reply = await this.receive();
    if (reply === undefined) throw new Error(`the backend hung up on request ${request}`);
    if (reply.request !== request) {
      throw new Error(`request ${request} was answered by ${reply.request}`);
    }
    return reply;
  }

  async askNumber(request: number, payload?: Uint8Array): Promise<bigint> {
    return (await this.ask(request, payload)).payload.readBigUInt64LE();
  }

  /** Sends a message that has no answer of its own, asks for an acknowledgement and waits for it: 0 is success. */
  async acknowledged(
    request: number,
    payload: Uint8Array,
    descriptors: readonly number[] = [],
  ): Promise<bigint> {
    const reply = await this.ask(request, payload, { flags: VERSION | NEED_REPLY, descriptors });
    return reply.payload.readBigUInt64LE();
  }

  /** The next message, or undefined once the connection has ended. */
  receive(): Promise<Message | undefined> {
    const next = this.#messages.shift();
    if (next !== undefined || this.#over) return Promise.resolve(next);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Whether what the backend says is read; it is from the start. */
  set listening(listening: boolean) {
    this.#watch.want(listening ? READABLE : 0);
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#end();
    this.poller.close();
    shutdown(this.#fd);
    close(this.#fd);
  }

  #receive(): void {
    for (;;) {
      let count: number;
      try {
        const { address, bytes } = this.#buffer;
        count = receiveWithDescriptors(this.#fd, address, bytes.length, this.#descriptors);
      } catch {
        count = 0;
      }
      if (count === WOULD_BLOCK) return;
      if (count === 0) return this.#end();
      this.#input = Buffer.concat([this.#input, this.#buffer.bytes.subarray(0, count)]);
      this.#decode();
    }
  }

  #decode(): void {
    while (this.#input.length >= HEADER_LENGTH) {
      const length = HEADER_LENGTH + this.#input.readUInt32LE(8);
      if (this.#input.length < length) return;
      const message = {
        request: this.#input.readUInt32LE(0),
        flags: this.#input.readUInt32LE(4),
        payload: this.#input.subarray(HEADER_LENGTH, length),
        descriptors: this.#descriptors,
      };
      this.#descriptors = [];
      this.#input = this.#input.subarray(length);
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#messages.push(message);
      else waiting(message);
    }
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#watch.close();
    for (const waiting of this.#waiting.splice(0)) waiting(undefined);
    this.#tellEnd();
  }
}

async function writable(poller: Poller, fd: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const watch = poller.watch(fd, () => {
      watch.close();
      resolve();
    });
    watch.want(WRITABLE);
  });
  finishConnect(fd);
}
