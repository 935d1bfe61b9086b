// Runs the handshake of one connection: gives it the bytes that come, sends what it replies, hands the channel over to TLS when
// it asks for that, and tells how it ended.

import { IoError } from '../../base/errors.ts';
import { type ByteChannel, socketFailures, WOULD_BLOCK } from '../../net/byte-channel.ts';
import { NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES } from '../../net/nbd/protocol.ts';
import { encodeGreeting } from '../../net/nbd/wire.ts';
import type { ClientHost } from './client.ts';
import { failedRead, negotiate } from './handshake.ts';
import type { Input } from './input.ts';
import {
  Handshake,
  HandshakeError,
  type Negotiated,
  type Step,
  type Steps,
} from './negotiation.ts';
import type { Output } from './output.ts';

/** Bytes of replies beyond which a handshake waits until the peer has taken them. */
const MAX_UNSENT = 64 * 1024;

/** What is logged of a client that does not come to an end with the handshake of TLS. */
const INTERRUPTED_TLS = 'TLS handshake failed: The TLS connection was non-properly terminated.';

const greeting = encodeGreeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);

export interface NegotiatorOptions {
  readonly channel: ByteChannel;
  /** What comes and goes, which whoever goes on after the handshake takes over. */
  readonly input: Input;
  readonly output: Output;
  readonly server: ClientHost;
  /** The connection is under TLS: what is readable and writable from now on is its new channel. */
  readonly onSecured: () => void;
  /** One of these ends it, unless it was stopped. */
  readonly onNegotiated: (negotiated: Negotiated) => void;
  readonly onLeft: () => void;
  readonly onFailed: (text: string) => void;
  /** Runs what is called from the loop, and deals with faults of ours in it. */
  readonly guarded: (work: () => void) => void;
}

export class Negotiator {
  readonly #options: NegotiatorOptions;
  readonly #input: Input;
  readonly #output: Output;
  readonly #server: ClientHost;
  #channel: ByteChannel;
  /** Undefined before the start and after the end. */
  #handshake: Steps<Negotiated | undefined> | undefined;
  #step: Step = { length: 0, what: undefined };
  #timer: NodeJS.Timeout | undefined;
  /** The turn is over; the next one is under way. */
  #resting = false;

  constructor(options: NegotiatorOptions) {
    this.#options = options;
    this.#input = options.input;
    this.#output = options.output;
    this.#server = options.server;
    this.#channel = options.channel;
  }

  /** The connection's, or TLS over it as soon as that begins. */
  get channel(): ByteChannel {
    return this.#channel;
  }

  /** Greets and begins to negotiate. */
  start(): void {
    const server = this.#server;
    if (server.handshakeMaxSeconds > 0) {
      this.#timer = setTimeout(() => this.#tooSlow(), server.handshakeMaxSeconds * 1000);
    }
    this.#options.guarded(() => {
      const handshake = new Handshake({
        exports: server,
        trace: server.trace,
        tls: server.tls === undefined ? 'none' : 'required',
        send: (bytes) => this.#output.append(bytes),
      });
      this.#output.append(greeting);
      this.#handshake = negotiate(handshake);
      this.#advance(Buffer.alloc(0));
      this.#negotiate();
    });
  }

  readable(): void {
    this.#negotiate();
  }

  writable(): void {
    this.#channel.wantWritable(false);
    this.#channel.wantReadable(true);
    this.#negotiate();
  }

  /** It says nothing any more, and tells nothing. Idempotent. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#handshake = undefined;
  }

  /** Takes the handshake as far as what was received goes. */
  #negotiate(): void {
    if (this.#resting) return;
    const turn = this.#server.turns.next(this.#channel);
    for (let steps = 0; this.#handshake !== undefined; steps++) {
      if (this.#output.length >= MAX_UNSENT && !this.#flush()) return;
      if (steps === turn) {
        this.#rest();
        return;
      }
      const { length, startTls } = this.#step;
      if (startTls === true) {
        if (this.#flush()) this.#startTls();
        return;
      }
      if (this.#input.length >= length) {
        this.#advance(this.#takeInput(length));
        continue;
      }
      if (!this.#flush() || !this.#receive()) return;
    }
  }

  /** Hands the connection over to TLS, and goes on when it is ready. */
  #startTls(): void {
    const received = Buffer.from(this.#takeInput(this.#input.length));
    this.#input.releaseIdle();
    this.#output.releaseIdle();
    const failed = (error: unknown): void => {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#handshake !== undefined) this.#failHandshake(new HandshakeError(reason));
    };
    try {
      const secured = this.#server.tls?.start(this.#channel, received);
      if (secured === undefined) throw new HandshakeError('TLS not configured');
      this.#channel = secured;
      secured.ready.then(() => this.#options.guarded(() => this.#goOn()), failed);
    } catch (error) {
      failed(error);
    }
  }

  #goOn(): void {
    if (this.#handshake === undefined) return;
    this.#options.onSecured();
    this.#channel.wantReadable(true);
    this.#advance(Buffer.alloc(0));
    this.#negotiate();
  }

  #rest(): void {
    this.#resting = true;
    setImmediate(() => {
      this.#resting = false;
      this.#options.guarded(() => this.#negotiate());
    });
  }

  #takeInput(length: number): Buffer {
    const { buffer, start } = this.#input;
    if (length === 0 || buffer === undefined) return Buffer.alloc(0);
    this.#input.start += length;
    return buffer.bytes.subarray(start, start + length);
  }

  /** Gives the handshake the bytes that it waits for. */
  #advance(bytes: Buffer): void {
    if (this.#handshake === undefined) return;
    let result: IteratorResult<Step, Negotiated | undefined>;
    try {
      result = this.#handshake.next(bytes);
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error;
      this.#failHandshake(error);
      return;
    }
    if (!result.done) {
      this.#step = result.value;
      this.#input.makeRoom(result.value.length);
      return;
    }
    this.stop();
    if (result.value === undefined) this.#options.onLeft();
    else this.#options.onNegotiated(result.value);
  }

  /** False when the peer takes no more for now, or is gone. */
  #flush(): boolean {
    try {
      if (this.#output.flush(this.#channel)) return true;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      const text = `${(this.#channel.failures ?? socketFailures).write}: ${error.reason}`;
      // The greeting is not part of what the reference calls option negotiation.
      if (this.#step.what === 'flags') this.#options.onFailed(`write failed: ${text}`);
      else this.#failHandshake(new HandshakeError(text));
      return false;
    }
    this.#channel.wantReadable(false);
    this.#channel.wantWritable(true);
    return false;
  }

  /** False when there is nothing to go on with. */
  #receive(): boolean {
    let received: number;
    try {
      received = this.#input.receive(this.#channel, Infinity);
      if (
        received === WOULD_BLOCK &&
        this.#server.turns.alone &&
        this.#channel.unbuffered === true
      ) {
        received = this.#server.poll.again(() => this.#input.receive(this.#channel, Infinity));
      }
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#failHandshake(failedRead(this.#step, error, this.#channel.failures));
      return false;
    }
    if (received === WOULD_BLOCK) {
      this.#channel.wantReadable(true);
      this.#input.releaseIdle();
      this.#output.releaseIdle();
      return false;
    }
    if (received > 0) return true;
    this.#failHandshake(failedRead(this.#step, undefined));
    return false;
  }

  #tooSlow(): void {
    this.#server.trace.nbd_handshake_timer_cb.log({ peer: this.#channel.peer });
    const error =
      this.#step.startTls === true
        ? new HandshakeError(INTERRUPTED_TLS)
        : failedRead(this.#step, undefined);
    this.#options.guarded(() => this.#failHandshake(error));
  }

  #failHandshake(error: HandshakeError): void {
    this.#options.onFailed(`option negotiation failed: ${error.message}`);
  }
}
