// The socket to a frontend: whole messages with their files in, replies out. One message is dealt with at a time; nothing is
// read meanwhile, and nothing while a reply waits for room, so a frontend that does not listen costs one message.

import { ProtocolError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { SocketChannel } from '../../net/socket-channel.ts';
import { FdPassing } from '../../sys/fd-passing.ts';
import { allocate } from '../../sys/memory.ts';
import { close, WOULD_BLOCK } from '../../sys/socket.ts';
import { HEADER_SIZE, MAX_MESSAGE_FDS, MAX_PAYLOAD, VHOST_USER_REPLY_MASK } from './protocol.ts';
import { decodeHeader, encodeHeader, type MessageHeader } from './wire.ts';

/** Messages dealt with before others have their turn. */
const MESSAGES_PER_TURN = 32;

/** A message as it came. */
export interface Message extends MessageHeader {
  /** Valid until the message has been dealt with. */
  readonly payload: Buffer;
  /** Whoever takes one out has to close it; those left are closed when the message has been dealt with. */
  readonly fds: number[];
}

export interface ConnectionOptions {
  readonly channel: SocketChannel;
  /** Deals with a message. What it throws or rejects ends the connection. */
  readonly onMessage: (message: Message) => MaybePromise<void>;
  /** Called once: nothing more comes. Undefined when the frontend has closed it, or close() was called. */
  readonly onEnd: (error: unknown) => void;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #passing = new FdPassing();
  readonly #input: IoBuffer = allocate(HEADER_SIZE + MAX_PAYLOAD);
  readonly #output: IoBuffer = allocate(HEADER_SIZE + MAX_PAYLOAD);
  #have = 0;
  #header: MessageHeader | undefined;
  #fds: number[] = [];
  /** Bytes of a reply that wait for room, from `#sent` on. */
  #unsent = 0;
  #sent = 0;
  #fdToSend = -1;
  #busy = false;
  #ended = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    options.channel.onReadable = () => this.#guarded(() => this.#receive());
    options.channel.onWritable = () => this.#guarded(() => this.#send());
  }

  start(): void {
    this.#options.channel.wantReadable(true);
  }

  /** Answers the message that is being dealt with. Takes over the file that goes with the answer. */
  reply({ request }: Message, payload: Buffer, fd = -1): void {
    encodeHeader(this.#output.bytes, request, VHOST_USER_REPLY_MASK, payload.length);
    payload.copy(this.#output.bytes, HEADER_SIZE);
    this.#sent = 0;
    this.#unsent = HEADER_SIZE + payload.length;
    this.#fdToSend = fd;
    this.#send();
  }

  /** Ends it. Idempotent. */
  close(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const fd of this.#fds.splice(0)) close(fd);
    this.#closeSent();
    this.#options.channel.close();
    this.#options.onEnd(error);
  }

  /** The message before is dealt with, and its reply sent. */
  get #listening(): boolean {
    return !this.#busy && this.#unsent === 0 && !this.#ended;
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.close(error);
    }
  }

  #receive(): void {
    for (let count = 0; count < MESSAGES_PER_TURN && this.#listening; count++) {
      if (!this.#fill(HEADER_SIZE)) return;
      this.#header ??= decodeHeader(this.#input.bytes);
      if (!this.#fill(HEADER_SIZE + this.#header.size)) return;
      this.#handle(this.#header);
    }
  }

  /** Reads until there are `length` bytes of the message. */
  #fill(length: number): boolean {
    while (this.#have < length) {
      const { channel } = this.#options;
      const address = this.#input.address + this.#have;
      const received = this.#passing.receive(channel.fd, address, length - this.#have, this.#fds);
      if (this.#fds.length > MAX_MESSAGE_FDS) {
        throw new ProtocolError('files', this.#fds.length, `at most ${MAX_MESSAGE_FDS}`);
      }
      if (received === WOULD_BLOCK) return false;
      if (received === 0) {
        this.close();
        return false;
      }
      this.#have += received;
    }
    return true;
  }

  #handle(header: MessageHeader): void {
    const payload = this.#input.bytes.subarray(HEADER_SIZE, HEADER_SIZE + header.size);
    const fds = this.#fds;
    this.#fds = [];
    this.#have = 0;
    this.#header = undefined;
    let later: MaybePromise<void>;
    try {
      later = this.#options.onMessage({ ...header, payload, fds });
    } catch (error) {
      for (const fd of fds) close(fd);
      throw error;
    }
    if (later === undefined) {
      for (const fd of fds) close(fd);
      this.#resume();
      return;
    }
    this.#setBusy(true);
    later
      .finally(() => {
        for (const fd of fds) close(fd);
        this.#setBusy(false);
      })
      .catch((error: unknown) => this.close(error));
  }

  #setBusy(busy: boolean): void {
    this.#busy = busy;
    this.#resume();
  }

  #resume(): void {
    if (this.#ended) return;
    this.#options.channel.wantReadable(this.#listening);
    this.#options.channel.wantWritable(this.#unsent > 0);
  }

  #send(): void {
    while (this.#unsent > 0 && !this.#ended) {
      const { channel } = this.#options;
      const address = this.#output.address + this.#sent;
      const sent = this.#passing.send(channel.fd, address, this.#unsent, this.#fdToSend);
      if (sent === WOULD_BLOCK) break;
      this.#sent += sent;
      this.#unsent -= sent;
      this.#closeSent();
    }
    this.#resume();
  }

  /** The file has gone with the first byte, or never will. */
  #closeSent(): void {
    if (this.#fdToSend >= 0) close(this.#fdToSend);
    this.#fdToSend = -1;
  }
}
