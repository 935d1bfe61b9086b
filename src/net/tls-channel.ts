// A TLS session as a ByteChannel: the handshake, then bytes both ways. The session tells what it can do now; here it waits for
// the socket. What was taken of the owner and is not sent yet is bounded, so that a peer that reads slowly fills only its own.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import type { ByteChannel } from './byte-channel.ts';
import type { SocketChannel } from './socket-channel.ts';
import type { TlsContext } from './tls-context.ts';
import { type FailureContext, handshakeFailure, TlsError } from './tls-failure.ts';
import { TlsSession } from './tls-session.ts';

/** Milliseconds in which the last bytes must have left, once the channel is closed. */
const LINGER_MS = 1000;

export interface TlsChannelOptions {
  /** The connection below; it belongs to the channel. */
  readonly plain: SocketChannel;
  readonly context: TlsContext;
  readonly endpoint: 'server' | 'client';
  /** What the peer has sent already. */
  readonly received?: Uint8Array | undefined;
  /** Checks the peer after the handshake and answers who it is, where that is known. Throws TlsError. */
  readonly check: (session: TlsSession) => string | undefined;
  readonly kind: FailureContext['kind'];
  /** Milliseconds for the handshake; 0 for any. */
  readonly handshakeMs: number;
  /** Called once, when the session has been freed. */
  readonly onFreed?: () => void;
}

export class TlsChannel implements ByteChannel {
  readonly failures = {
    read: 'Cannot read from TLS channel',
    write: 'Cannot write to TLS channel',
  };
  onReadable: () => void = () => {};
  onWritable: () => void = () => {};
  /** Resolves when the peer is known and accepted; rejects TlsError, and the channel is closed then. */
  readonly ready: Promise<void>;
  readonly #options: TlsChannelOptions;
  readonly #plain: SocketChannel;
  readonly #session: TlsSession;
  /** `lingering`: closed, but the last bytes are not sent yet. */
  #state: 'handshake' | 'open' | 'lingering' | 'closed' = 'handshake';
  #identity: string | undefined;
  /** Who the peer says it is, with keys. */
  #user: string | undefined;
  #settle: { resolve: () => void; reject: (error: Error) => void } = {
    resolve: () => {},
    reject: () => {},
  };
  #timer: NodeJS.Timeout | undefined;
  #wantsReadable = false;
  #wantsWritable = false;
  #wakeUp: NodeJS.Immediate | undefined;

  constructor(options: TlsChannelOptions) {
    const { plain, context, endpoint, received, handshakeMs } = options;
    this.#options = options;
    this.#plain = plain;
    this.ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever closes the channel during the handshake does not wait for it.
    this.ready.catch(() => {});
    const onNamed = (user: string): void => {
      this.#user = user;
    };
    try {
      this.#session = new TlsSession({ context, fd: plain.fd, endpoint, received, onNamed });
    } catch (error) {
      plain.close();
      options.onFreed?.();
      throw handshakeFailure(error, { kind: options.kind, named: false });
    }
    plain.onReadable = () => this.#readable();
    plain.onWritable = () => this.#writable();
    if (handshakeMs > 0) {
      const late = { code: 'ERR_TLS_HANDSHAKE_TIMEOUT' };
      this.#timer = setTimeout(() => this.#failed(late), handshakeMs);
    }
    this.#handshake();
  }

  get peer(): string {
    return this.#plain.peer;
  }

  /** Who the peer is: the distinguished name of its certificate, or the user whose key it has; undefined when it is not known. */
  get identity(): string | undefined {
    return this.#identity;
  }

  wantReadable(want: boolean): void {
    this.#wantsReadable = want;
    if (this.#state !== 'open') return;
    this.#watch();
    if (want) this.#wakeLater();
  }

  wantWritable(want: boolean): void {
    this.#wantsWritable = want;
    if (this.#state !== 'open') return;
    this.#watch();
    if (want) this.#wakeLater();
  }

  receive(into: IoBuffer, at: number, max: number): number {
    if (this.#state !== 'open') return 0;
    const count = this.#session.read(into.address + at, max);
    this.#watch();
    if (this.#wantsReadable) this.#wakeLater();
    return count;
  }

  send(from: IoBuffer, at: number, length: number): number {
    if (this.#state !== 'open') throw new IoError(errno.EPIPE, { syscall: 'send' });
    const count = this.#session.write(from.address + at, length);
    this.#watch();
    return count;
  }

  /** What was taken is still sent. */
  shutdown(): void {
    if (this.#state === 'closed' || this.#state === 'lingering') return;
    if (this.#state === 'handshake') {
      this.#giveUp(new TlsError('The connection was closed'));
      return;
    }
    this.#silence();
    this.#state = 'lingering';
    this.#session.end();
    this.#timer = setTimeout(() => this.#release(), LINGER_MS);
    this.#writable();
  }

  close(): void {
    this.shutdown();
  }

  #handshake(): void {
    try {
      if (!this.#session.handshake()) {
        const { isSending, isBlockedByWriting } = this.#session;
        this.#plain.wantReadable(!isBlockedByWriting);
        this.#plain.wantWritable(isSending);
        return;
      }
    } catch (error) {
      this.#failed(error);
      return;
    }
    try {
      this.#identity = this.#options.check(this.#session) ?? this.#user;
    } catch (error) {
      this.#giveUp(error instanceof TlsError ? error : new TlsError((error as Error).message));
      return;
    }
    clearTimeout(this.#timer);
    this.#state = 'open';
    this.#watch();
    this.#settle.resolve();
  }

  #readable(): void {
    if (this.#state === 'handshake') this.#handshake();
    else if (this.#state === 'open' && this.#wantsReadable) this.onReadable();
  }

  #writable(): void {
    if (this.#state === 'handshake') {
      this.#handshake();
      return;
    }
    let sent = true;
    try {
      sent = this.#session.flush();
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      // The next to send hears of it; there is nothing to wait for.
    }
    if (this.#state === 'lingering') {
      if (sent) this.#release();
      else this.#plain.wantWritable(true);
      return;
    }
    if (sent && this.#wantsWritable) this.onWritable();
    if (this.#state === 'open') this.#watch();
  }

  /** Waits for the socket for what the session cannot do now. */
  #watch(): void {
    const { isSending, isBlockedByWriting } = this.#session;
    this.#plain.wantReadable(this.#wantsReadable && !isBlockedByWriting);
    this.#plain.wantWritable(isSending);
  }

  /** Tells the owner what the socket does not know of. */
  #wakeLater(): void {
    if (this.#wakeUp !== undefined || !this.#hasNews()) return;
    this.#wakeUp = setImmediate(() => {
      this.#wakeUp = undefined;
      if (this.#wantsWritable && !this.#session.isSending) this.onWritable();
      if (this.#state === 'open' && this.#wantsReadable && this.#session.hasNews) this.onReadable();
      if (this.#state === 'open') this.#wakeLater();
    });
  }

  #hasNews(): boolean {
    const { isSending, hasNews } = this.#session;
    return (this.#wantsReadable && hasNews) || (this.#wantsWritable && !isSending);
  }

  /** The handshake cannot be done. */
  #failed(error: unknown): void {
    const { kind } = this.#options;
    this.#giveUp(handshakeFailure(error, { kind, named: this.#user !== undefined }));
  }

  #giveUp(error: TlsError): void {
    this.#silence();
    this.#release();
    this.#settle.reject(error);
  }

  /** The owner hears nothing more. */
  #silence(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#wakeUp);
    this.onReadable = () => {};
    this.onWritable = () => {};
    this.#plain.wantReadable(false);
  }

  #release(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearTimeout(this.#timer);
    this.#plain.close();
    this.#session.free();
    this.#options.onFreed?.();
  }
}
