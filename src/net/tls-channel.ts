// A TLS session as a ByteChannel. node:tls pushes what comes and takes what goes; here both wait in bounded buffers, so that the
// owner can pull and push when it likes, and a peer that reads slowly fills only its own.

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { type ByteChannel, WOULD_BLOCK } from './byte-channel.ts';
import { CHUNK_BYTES, type ChunkPool } from './chunk-pool.ts';
import { type FailureContext, handshakeFailure, TlsError } from './tls-failure.ts';

/** Bytes received and not yet taken beyond which no more are decrypted. */
const MAX_RECEIVED = 256 * 1024;
/** Milliseconds in which the last bytes must have left, once the channel is closed. */
const LINGER_MS = 1000;

export interface TlsChannelOptions {
  readonly peer: string;
  /** The socket below; it belongs to the channel. */
  readonly socket: Socket;
  readonly pool: ChunkPool;
  /** Checks the peer after the handshake and answers who it is, where that is known. Throws TlsError. */
  readonly check: (socket: TLSSocket) => string | undefined;
  readonly kind: FailureContext['kind'];
  /** Milliseconds for the handshake; 0 for any. */
  readonly handshakeMs: number;
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
  #state: 'handshake' | 'open' | 'closed' = 'handshake';
  #tls: TLSSocket | undefined;
  #identity: string | undefined;
  /** Who the peer says it is, with keys. */
  #user: string | undefined;
  #settle: { resolve: () => void; reject: (error: Error) => void } = {
    resolve: () => {},
    reject: () => {},
  };
  #timer: NodeJS.Timeout | undefined;

  readonly #received: Buffer[] = [];
  /** Bytes of the first of #received that are taken. */
  #taken = 0;
  #receivedBytes = 0;
  #ended = false;
  #failure: IoError | undefined;
  /** One chunk is being encrypted and sent, while the next fills: node copies what it is given several of at once. */
  #writing = false;
  #filling: Buffer | undefined;
  #filled = 0;
  #wantsReadable = false;
  #wantsWritable = false;
  #wakeUp: NodeJS.Immediate | undefined;

  constructor(options: TlsChannelOptions) {
    this.#options = options;
    this.ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever closes the channel during the handshake does not wait for it.
    this.ready.catch(() => {});
    options.socket.on('error', () => {});
    if (options.handshakeMs > 0) {
      const late = { code: 'ERR_TLS_HANDSHAKE_TIMEOUT' };
      this.#timer = setTimeout(() => this.failed(late), options.handshakeMs);
    }
  }

  get peer(): string {
    return this.#options.peer;
  }

  /** Who the peer is: the distinguished name of its certificate, or the user whose key it has; undefined when it is not known. */
  get identity(): string | undefined {
    return this.#identity;
  }

  /** The handshake is done. */
  secured(tls: TLSSocket): void {
    if (this.#state !== 'handshake') {
      tls.destroy();
      return;
    }
    this.#tls = tls;
    tls.on('error', () => {});
    try {
      this.#identity = this.#options.check(tls) ?? this.#user;
    } catch (error) {
      const reason = error instanceof TlsError ? error : new TlsError((error as Error).message);
      this.#giveUp(reason);
      return;
    }
    clearTimeout(this.#timer);
    this.#state = 'open';
    // A peer that sends no more may still want its answers.
    tls.allowHalfOpen = true;
    tls.on('data', (bytes: Buffer) => this.#arrived(bytes));
    tls.on('end', () => this.#over(undefined));
    tls.on('close', () => this.#over(undefined));
    tls.on('error', (error) => this.#over(ioErrorOf(error)));
    this.#settle.resolve();
  }

  /** The peer has said which user it is; it counts when the handshake is done. */
  peerNamed(user: string): void {
    this.#user = user;
  }

  /** The handshake cannot be done. */
  failed(error: unknown): void {
    if (this.#state !== 'handshake') return;
    this.#giveUp(
      handshakeFailure(error, { kind: this.#options.kind, named: this.#user !== undefined }),
    );
  }

  wantReadable(want: boolean): void {
    this.#wantsReadable = want;
    if (want) this.#wakeLater();
  }

  wantWritable(want: boolean): void {
    this.#wantsWritable = want;
    if (want) this.#wakeLater();
  }

  receive(into: IoBuffer, at: number, max: number): number {
    let copied = 0;
    while (copied < max) {
      const first = this.#received[0];
      if (first === undefined) break;
      const length = Math.min(first.length - this.#taken, max - copied);
      first.copy(into.bytes, at + copied, this.#taken, this.#taken + length);
      copied += length;
      this.#taken += length;
      if (this.#taken < first.length) break;
      this.#received.shift();
      this.#taken = 0;
    }
    if (copied > 0) {
      this.#receivedBytes -= copied;
      if (this.#receivedBytes < MAX_RECEIVED && this.#tls?.isPaused() === true) this.#tls.resume();
      return copied;
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#ended ? 0 : WOULD_BLOCK;
  }

  send(from: IoBuffer, at: number, length: number): number {
    if (this.#failure !== undefined) throw this.#failure;
    const tls = this.#tls;
    if (this.#state !== 'open' || tls === undefined || !tls.writable) {
      throw new IoError(errno.EPIPE, { syscall: 'send' });
    }
    if (!this.#writing) {
      const chunk = this.#options.pool.take(length);
      from.bytes.copy(chunk, 0, at, at + chunk.length);
      this.#write(tls, chunk, chunk.length);
      return chunk.length;
    }
    this.#filling ??= this.#options.pool.take(CHUNK_BYTES);
    const taken = Math.min(length, this.#filling.length - this.#filled);
    if (taken === 0) return WOULD_BLOCK;
    from.bytes.copy(this.#filling, this.#filled, at, at + taken);
    this.#filled += taken;
    return taken;
  }

  #write(tls: TLSSocket, chunk: Buffer, length: number): void {
    this.#writing = true;
    tls.write(length === chunk.length ? chunk : chunk.subarray(0, length), () => {
      this.#options.pool.give(chunk);
      this.#writing = false;
      if (this.#state !== 'open') return;
      this.#writeFilled(tls);
      if (this.#wantsWritable && this.#hasRoom()) this.onWritable();
    });
  }

  #writeFilled(tls: TLSSocket): void {
    const chunk = this.#filling;
    if (chunk === undefined) return;
    const length = this.#filled;
    this.#filling = undefined;
    this.#filled = 0;
    this.#write(tls, chunk, length);
  }

  #hasRoom(): boolean {
    return this.#filled < CHUNK_BYTES;
  }

  /** What was taken is still sent. */
  shutdown(): void {
    if (this.#state === 'closed') return;
    const { socket } = this.#options;
    const tls = this.#tls;
    if (this.#state === 'handshake') {
      this.#giveUp(new TlsError('The connection was closed'));
      return;
    }
    this.#close();
    if (tls === undefined || this.#failure !== undefined) {
      socket.destroy();
      return;
    }
    // What still comes is nobody's.
    tls.removeAllListeners('data');
    tls.resume();
    const linger = setTimeout(() => socket.destroy(), LINGER_MS);
    tls.once('close', () => clearTimeout(linger));
    this.#writeFilled(tls);
    tls.end(() => tls.destroy());
  }

  close(): void {
    this.shutdown();
  }

  #arrived(bytes: Buffer): void {
    this.#received.push(bytes);
    this.#receivedBytes += bytes.length;
    if (this.#receivedBytes >= MAX_RECEIVED) this.#tls?.pause();
    this.#wake();
  }

  #over(failure: IoError | undefined): void {
    this.#failure ??= failure;
    this.#ended = true;
    this.#wake();
  }

  /** Tells the owner, and again for as long as there is something and it wants to know. */
  #wake(): void {
    if (this.#state !== 'open') return;
    if (this.#wantsReadable && this.#hasNews()) this.onReadable();
    this.#wakeLater();
  }

  #wakeLater(): void {
    if (this.#state !== 'open' || this.#wakeUp !== undefined) return;
    const readable = this.#wantsReadable && this.#hasNews();
    const writable = this.#wantsWritable && this.#hasRoom();
    if (!readable && !writable) return;
    this.#wakeUp = setImmediate(() => {
      this.#wakeUp = undefined;
      if (this.#state !== 'open') return;
      if (this.#wantsWritable && this.#hasRoom()) this.onWritable();
      this.#wake();
    });
  }

  #hasNews(): boolean {
    return this.#received.length > 0 || this.#ended || this.#failure !== undefined;
  }

  #giveUp(error: TlsError): void {
    this.#close();
    this.#tls?.destroy();
    this.#options.socket.destroy();
    this.#settle.reject(error);
  }

  #close(): void {
    this.#state = 'closed';
    clearTimeout(this.#timer);
    clearImmediate(this.#wakeUp);
    this.onReadable = () => {};
    this.onWritable = () => {};
    this.#received.length = 0;
  }
}

/** A failure below, or one of the protocol, which has no errno of its own. */
function ioErrorOf(error: NodeJS.ErrnoException): IoError {
  const number = typeof error.errno === 'number' && error.errno < 0 ? -error.errno : errno.EIO;
  return new IoError(number, { syscall: error.syscall ?? 'TLS' });
}
