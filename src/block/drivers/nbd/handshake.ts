// Connects to a server and carries out the handshake that negotiation.ts describes, over the socket and, where it is wanted,
// over TLS.

import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import type { TlsCredentials } from '../../../base/tls-credentials.ts';
import { type ByteChannel, socketFailures, WOULD_BLOCK } from '../../../net/byte-channel.ts';
import { connect } from '../../../net/connect.ts';
import { NBD_MAX_STRING_SIZE } from '../../../net/nbd/protocol.ts';
import type { SocketAddress } from '../../../net/socket-address.ts';
import type { SocketChannel } from '../../../net/socket-channel.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { DescriptorPoller } from '../../driver-context.ts';
import { negotiate, type ServerInfo, type Wish } from './negotiation.ts';
import { NegotiationError, type Step } from './option.ts';

export interface ServerTarget {
  readonly address: SocketAddress;
  /** Descriptors are told by their numbers, not by a monitor's names. */
  readonly fdsByNumber: boolean;
  readonly wish: Wish;
  readonly tls:
    | { readonly credentials: TlsCredentials; readonly hostname: string | undefined }
    | undefined;
}

export interface HandshakeTools {
  readonly poller: DescriptorPoller;
  readonly allocate: (length: number) => IoBuffer;
  /** Gives up, with its reason. */
  readonly signal: AbortSignal;
}

export interface Established {
  readonly channel: ByteChannel;
  readonly info: ServerInfo;
}

/** More than any one thing that either side says in a handshake: the longest asks for a context, with two names. */
const BUFFER_SIZE = 3 * NBD_MAX_STRING_SIZE;

/** Steps after which others have their turn. */
const STEPS_PER_TURN = 256;

const END_OF_FILE = 'Unexpected end-of-file before all data were read';

/** Rejects QmpError with the reference's text, or the signal's reason; nothing stays open then. */
export async function establish(target: ServerTarget, tools: HandshakeTools): Promise<Established> {
  const { poller, signal } = tools;
  const { address, fdsByNumber } = target;
  const plain = await connect(address, { poller, signal, fdsByNumber });
  plain.setNoDelay();
  plain.enlargeSendBuffer();
  const handshake = new Handshake(plain, target, tools);
  try {
    signal.throwIfAborted();
    const info = await handshake.carryOut();
    return { channel: handshake.release(), info };
  } catch (error) {
    handshake.fail(error);
    throw error;
  }
}

class Handshake {
  readonly #target: ServerTarget;
  readonly #signal: AbortSignal;
  readonly #buffer: IoBuffer;
  readonly #plain: SocketChannel;
  #channel: ByteChannel;

  constructor(plain: SocketChannel, target: ServerTarget, tools: HandshakeTools) {
    this.#plain = plain;
    this.#channel = plain;
    this.#target = target;
    this.#signal = tools.signal;
    this.#buffer = tools.allocate(BUFFER_SIZE);
  }

  async carryOut(): Promise<ServerInfo> {
    const negotiation = negotiate(this.#target.wish);
    let result = negotiation.next(Buffer.alloc(0));
    for (let steps = 1; result.done !== true; steps++) {
      result = negotiation.next(await this.#take(result.value));
      if (steps % STEPS_PER_TURN === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        this.#signal.throwIfAborted();
      }
    }
    return result.value;
  }

  /** The channel is the caller's now. */
  release(): ByteChannel {
    this.#channel.wantReadable(false);
    this.#channel.wantWritable(false);
    return this.#channel;
  }

  fail(error: unknown): void {
    if (error instanceof NegotiationError && error.farewell !== undefined) {
      try {
        error.farewell.copy(this.#buffer.bytes);
        this.#channel.send(this.#buffer, 0, error.farewell.length);
      } catch {
        // A courtesy, no more.
      }
    }
    this.#channel.close();
  }

  async #take(step: Step): Promise<Buffer> {
    switch (step.do) {
      case 'send':
        await this.#send(step.bytes, step.what);
        return Buffer.alloc(0);
      case 'receive':
        return this.#receive(step.length, step.what);
      case 'start tls':
        await this.#startTls();
        return Buffer.alloc(0);
    }
    return step satisfies never;
  }

  async #send(bytes: Buffer, what: string): Promise<void> {
    bytes.copy(this.#buffer.bytes);
    const { write } = this.#channel.failures ?? socketFailures;
    for (let at = 0; at < bytes.length; ) {
      const sent = failing(`Failed to send ${what}: ${write}`, () =>
        this.#channel.send(this.#buffer, at, bytes.length - at),
      );
      if (sent === WOULD_BLOCK) await this.#ready('write');
      else at += sent;
    }
  }

  /** Exactly so many bytes: what follows them may be for somebody else. */
  async #receive(length: number, what: string): Promise<Buffer> {
    const { read } = this.#channel.failures ?? socketFailures;
    for (let at = 0; at < length; ) {
      const received = failing(`Failed to read ${what}: ${read}`, () =>
        this.#channel.receive(this.#buffer, at, length - at),
      );
      if (received === 0) throw new QmpError(`Failed to read ${what}: ${END_OF_FILE}`);
      if (received === WOULD_BLOCK) await this.#ready('read');
      else at += received;
    }
    return this.#buffer.bytes.subarray(0, length);
  }

  async #startTls(): Promise<void> {
    const { tls } = this.#target;
    if (tls === undefined) throw new Error('TLS was not wished for');
    const { tlsConnect } = await import('../../../net/tls.ts');
    try {
      const secured = tlsConnect(this.#plain, tls.credentials, {
        handshakeMs: 0,
        ...(tls.hostname === undefined ? {} : { hostname: tls.hostname }),
      });
      this.#channel = secured;
      await this.#unlessAborted(secured.ready);
    } catch (error) {
      if (this.#signal.aborted || !(error instanceof Error)) throw error;
      throw new QmpError(error.message, { cause: error });
    }
  }

  #ready(what: 'read' | 'write'): Promise<void> {
    const channel = this.#channel;
    return this.#unlessAborted(
      new Promise((resolve) => {
        if (what === 'read') {
          channel.onReadable = () => {
            channel.wantReadable(false);
            resolve();
          };
          channel.wantReadable(true);
        } else {
          channel.onWritable = () => {
            channel.wantWritable(false);
            resolve();
          };
          channel.wantWritable(true);
        }
      }),
    );
  }

  async #unlessAborted(wait: Promise<void>): Promise<void> {
    const signal = this.#signal;
    signal.throwIfAborted();
    let abort = (): void => {};
    const aborted = new Promise<void>((_, reject) => {
      abort = () => reject(signal.reason as Error);
    });
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([wait, aborted]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }
}

/** Runs a call on the channel, with a text for its failure. */
function failing<T>(context: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${context}: ${error.reason}`, { cause: error });
  }
}
