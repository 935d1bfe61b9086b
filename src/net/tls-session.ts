// One TLS session over a connected socket, and no more: it never waits. What comes is decrypted into the caller's memory; what is
// to go is encrypted a few records at a time into a buffer, which leaves with one system call.

import { X509Certificate } from 'node:crypto';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf } from '../sys/libc.ts';
import { addressIn, openssl, opensslFailure, putAddress } from '../sys/openssl.ts';
import { receive, send } from '../sys/socket.ts';
import { WOULD_BLOCK } from './byte-channel.ts';
import type { TlsContext } from './tls-context.ts';

/** Bytes that are encrypted before they are sent: with what goes before it, a reply of 256 KiB leaves with two system calls. */
const WRITE_BYTES = 132 * 1024;
/** What they are at most when they are encrypted, with room for a few words of the protocol. */
const OUTGOING_BYTES = WRITE_BYTES + 8 * 1024;
/** Bytes that are received before they are decrypted: several records. */
const INCOMING_BYTES = 128 * 1024;
/**
 * OpenSSL's steps after the handshake, which a session may take without an end: tickets come with a few, new keys with five. And
 * one more for each such lot of data. They are dear, and nobody needs many.
 */
const MAX_STEPS = 128;
const DATA_PER_STEP = 256 * 1024;
/** Bytes that a handshake may take: ten times what OpenSSL takes of certificates. */
const MAX_HANDSHAKE_BYTES = 1024 * 1024;
/** Bytes that one read() decrypts, at most: another connection has its turn then. */
const READ_BYTES = 256 * 1024;

const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_ZERO_RETURN = 6;

const BIO_CTRL_RESET = 1;
const BIO_CTRL_PENDING = 10;
const BIO_C_SHUTDOWN_WR = 142;

/** Why OpenSSL did not do what it was asked for. */
type Outcome = 'wants read' | 'wants write' | 'ended' | 'failed';

/** A failure of the handshake: `code` as node's crypto has them, `reason` in OpenSSL's words. */
export class HandshakeFailure extends Error {
  override readonly name = 'HandshakeFailure';
  readonly code: string;
  readonly reason: string;

  constructor(code: string, reason: string) {
    super(reason);
    this.code = code;
    this.reason = reason;
  }
}

export interface TlsSessionOptions {
  readonly context: TlsContext;
  /** A connected socket, not the session's own. */
  readonly fd: number;
  readonly endpoint: 'server' | 'client';
  /** What the peer has sent already; no more than a session receives at once. */
  readonly received?: Uint8Array | undefined;
  /** Called during the handshake with the user that the peer says it is. */
  readonly onNamed: (user: string) => void;
}

export class TlsSession {
  readonly #context: TlsContext;
  readonly #fd: number;
  #ssl: number;
  /** Our end of the pipe to OpenSSL: what was received goes in, what is to be sent comes out. */
  #wire: number;
  /** Where functions put addresses. */
  readonly #place = new Uint32Array(2);
  /** All that was received is decrypted, and the socket had no more. */
  #exhausted = false;
  /** Bytes that were received before the handshake was done. */
  #handshakeBytes = 0;
  #blockedByWriting = false;
  #ended = false;
  /** The handshake is done. */
  #open = false;
  /** What OpenSSL has done since then that was not for data, and bytes of data. */
  #steps = 0;
  #data = 0;
  #failure: IoError | undefined;
  /** OpenSSL's own, where that was what failed. */
  #words: string | undefined;

  constructor({ context, fd, endpoint, received, onNamed }: TlsSessionOptions) {
    this.#context = context;
    this.#fd = fd;
    this.#ssl = openssl.SSL_new(context.address);
    const other = new Uint32Array(2);
    const made = openssl.BIO_new_bio_pair(other, OUTGOING_BYTES, this.#place, INCOMING_BYTES);
    if (this.#ssl === 0 || made === 0) throw new Error(opensslFailure());
    this.#wire = addressIn(this.#place);
    openssl.SSL_set_bio(this.#ssl, addressIn(other), addressIn(other));
    if (endpoint === 'server') openssl.SSL_set_accept_state(this.#ssl);
    else openssl.SSL_set_connect_state(this.#ssl);
    if (received !== undefined && received.length > 0) this.#take(received);
    context.listeners.set(this.#ssl, { named: onNamed, stepped: () => this.#stepped() });
  }

  /** Something is still to be sent. */
  get isSending(): boolean {
    return openssl.BIO_ctrl(this.#wire, BIO_CTRL_PENDING, 0, 0) > 0;
  }

  /** read() may have something though the socket has nothing. */
  get hasNews(): boolean {
    return !this.#exhausted || this.#ended || this.#failure !== undefined;
  }

  /** Nothing can be received before what is to be sent has been sent. */
  get isBlockedByWriting(): boolean {
    return this.#blockedByWriting;
  }

  /** Goes on with the handshake: whether it is done, or must wait for the socket. Throws HandshakeFailure. */
  handshake(): boolean {
    for (;;) {
      openssl.ERR_clear_error();
      const result = openssl.SSL_do_handshake(this.#ssl);
      const outcome = result === 1 ? 'done' : this.#outcomeOf(result);
      const failure = outcome === 'failed' || outcome === 'ended';
      let mayGoOn: boolean;
      try {
        const isSent = this.flush();
        this.#blockedByWriting = outcome === 'wants write' && !isSent;
        mayGoOn = outcome === 'wants read' ? this.#fill() : isSent;
      } catch (error) {
        if (!(error instanceof IoError)) throw error;
        // What OpenSSL thinks of the peer says more than that the peer does not want to know it.
        if (failure) throw this.#handshakeFailure();
        throw new HandshakeFailure(error.errno === errno.EPIPE ? 'EPIPE' : 'ECONNRESET', '');
      }
      if (failure) throw this.#handshakeFailure();
      if (outcome === 'done') {
        this.#open = true;
        return true;
      }
      if (!mayGoOn) return false;
      // What means nothing may come without an end.
      if (this.#handshakeBytes > MAX_HANDSHAKE_BYTES) {
        throw new HandshakeFailure('ERR_SSL_EXCESSIVE_MESSAGE_SIZE', 'excessive message size');
      }
    }
  }

  /** Bytes decrypted to `address` (1..max), 0 when the peer sends no more, or WOULD_BLOCK. Throws IoError. */
  read(address: number, max: number): number {
    const limit = Math.min(max, READ_BYTES);
    this.#exhausted = false;
    // What is received may be no data at all: not more of that than fits at once.
    let isWorthMore = true;
    let done = 0;
    openssl.ERR_clear_error();
    while (done < limit && !this.#ended && this.#failure === undefined) {
      const count = openssl.SSL_read(this.#ssl, address + done, limit - done);
      if (count > 0) {
        done += count;
        isWorthMore = true;
      } else if (this.#mayReadOn(this.#outcomeOf(count), isWorthMore)) {
        isWorthMore = false;
      } else {
        break;
      }
    }
    this.#data += done;
    if (done > 0) return done;
    if (this.#failure !== undefined) throw this.#failure;
    return this.#ended ? 0 : WOULD_BLOCK;
  }

  /** Bytes taken from `address` (1..length), or WOULD_BLOCK. What is taken may still have to be sent. Throws IoError. */
  write(address: number, length: number): number {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.flush()) return WOULD_BLOCK;
    openssl.ERR_clear_error();
    const count = openssl.SSL_write(this.#ssl, address, Math.min(length, WRITE_BYTES));
    if (count > 0) {
      this.#data += count;
      this.flush();
      return count;
    }
    const outcome = this.#outcomeOf(count);
    if (outcome === 'wants read' || outcome === 'wants write') return WOULD_BLOCK;
    throw this.#failure ?? new IoError(errno.EPIPE, { syscall: 'TLS' });
  }

  /** Sends what there is to send: whether that was all. Throws IoError. */
  flush(): boolean {
    for (;;) {
      const length = openssl.BIO_nread0(this.#wire, this.#place);
      if (length <= 0) break;
      const sent = send(this.#fd, addressIn(this.#place), length);
      if (sent === WOULD_BLOCK) return false;
      openssl.BIO_nread(this.#wire, this.#place, sent);
    }
    this.#blockedByWriting = false;
    return true;
  }

  /** Says that nothing more will be sent; that, too, may still have to be sent. */
  end(): void {
    openssl.ERR_clear_error();
    if (this.#failure === undefined) openssl.SSL_shutdown(this.#ssl);
    openssl.ERR_clear_error();
  }

  /** The peer's certificate and those that vouch for it, as far as that is known; none without one. */
  get certificates(): readonly X509Certificate[] {
    const own = openssl.SSL_get0_peer_certificate(this.#ssl);
    if (own === 0) return [];
    const chain = openssl.SSL_get0_verified_chain(this.#ssl);
    const length = chain === 0 ? 0 : openssl.OPENSSL_sk_num(chain);
    const others = Array.from({ length }, (_, index) => openssl.OPENSSL_sk_value(chain, index));
    return [own, ...others.slice(1)].map((certificate) => this.#copyOf(certificate));
  }

  /** What OpenSSL thinks of the peer's certificate: X509_V_OK (0), or X509_V_ERR_*. */
  get verifyResult(): number {
    return openssl.SSL_get_verify_result(this.#ssl);
  }

  /** Gives everything back. Nothing may be called after this but `free`. */
  free(): void {
    if (this.#ssl === 0) return;
    this.#context.listeners.delete(this.#ssl);
    openssl.SSL_free(this.#ssl);
    openssl.BIO_free(this.#wire);
    this.#ssl = 0;
    this.#wire = 0;
  }

  #take(received: Uint8Array): void {
    if (openssl.BIO_write(this.#wire, received, received.length) === received.length) return;
    // No handshake begins with that much.
    this.free();
    throw new HandshakeFailure('ERR_SSL_PACKET_LENGTH_TOO_LONG', 'packet length too long');
  }

  /** OpenSSL is at work on what was received, and would go on as long as there is some. */
  #stepped(): void {
    if (!this.#open || ++this.#steps <= MAX_STEPS + this.#data / DATA_PER_STEP) return;
    this.#failure ??= new IoError(errno.EPROTO, { syscall: 'TLS' });
    openssl.BIO_ctrl(this.#wire, BIO_CTRL_RESET, 0, 0);
  }

  /** Does what read() needs to go on, if that can be done. A failure of it comes after what was decrypted. */
  #mayReadOn(outcome: Outcome, isWorthMore: boolean): boolean {
    try {
      return this.#serve(outcome, isWorthMore);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#failure = error;
      return false;
    }
  }

  #serve(outcome: Outcome, isWorthMore: boolean): boolean {
    if (outcome === 'wants write') {
      this.#blockedByWriting = !this.flush();
      this.#exhausted = this.#blockedByWriting;
      return !this.#blockedByWriting;
    }
    if (outcome === 'ended') this.#ended = true;
    if (outcome !== 'wants read') return false;
    this.#exhausted = !isWorthMore || !this.#fill();
    return !this.#exhausted;
  }

  /** Receives what there is room for: whether there was anything, be it the end. Throws IoError. */
  #fill(): boolean {
    const room = openssl.BIO_nwrite0(this.#wire, this.#place);
    if (room <= 0) return false;
    const received = receive(this.#fd, addressIn(this.#place), room);
    if (received === WOULD_BLOCK) return false;
    if (received === 0) openssl.BIO_ctrl(this.#wire, BIO_C_SHUTDOWN_WR, 0, 0);
    else openssl.BIO_nwrite(this.#wire, this.#place, received);
    if (!this.#open) this.#handshakeBytes += received;
    return true;
  }

  #outcomeOf(result: number): Outcome {
    const error = openssl.SSL_get_error(this.#ssl, result);
    if (error === SSL_ERROR_WANT_READ) return 'wants read';
    if (error === SSL_ERROR_WANT_WRITE) return 'wants write';
    if (error === SSL_ERROR_ZERO_RETURN) return 'ended';
    this.#words = opensslFailure();
    // A failure of the protocol has no errno of its own.
    this.#failure = new IoError(errno.EIO, { syscall: 'TLS' });
    return 'failed';
  }

  #handshakeFailure(): HandshakeFailure {
    const words = this.#words;
    if (words === undefined) return new HandshakeFailure('ECONNRESET', '');
    return new HandshakeFailure(`ERR_SSL_${words.toUpperCase().replaceAll(' ', '_')}`, words);
  }

  #copyOf(certificate: number): X509Certificate {
    const der = Buffer.alloc(openssl.i2d_X509(certificate, null));
    putAddress(this.#place, addressOf(der));
    openssl.i2d_X509(certificate, this.#place);
    return new X509Certificate(der);
  }
}
