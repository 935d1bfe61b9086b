// What a connection has received and not yet worked off. Holds a buffer only while there is something in it.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { ByteChannel } from '../../net/byte-channel.ts';
import { BATCH_SIZE, type BufferPool } from './buffer-pool.ts';
import { RetiredBuffers } from './retired-buffers.ts';

export class Input {
  /** Where the bytes `start` (included) to `end` (excluded) lie. Undefined only when there are none. */
  buffer: IoBuffer | undefined;
  start = 0;
  end = 0;
  /** When something last came: the greater, the later, among all clients. */
  heard = 0;
  /** Requests that still read from `buffer`. */
  #pins = 0;
  /** Buffers with requests that still read from them, but no unread bytes. */
  readonly #retired: RetiredBuffers;
  readonly #pool: BufferPool;
  readonly #clock: { nextHeard(): number };

  constructor(pool: BufferPool, clock: { nextHeard(): number }) {
    this.#pool = pool;
    this.#clock = clock;
    this.#retired = new RetiredBuffers(pool);
  }

  get length(): number {
    return this.end - this.start;
  }

  /** There is no room behind what was received. */
  get isFull(): boolean {
    return this.end === this.buffer?.bytes.length;
  }

  /** Receives once, at most `limit` bytes: how many, 0 at end of stream, or WOULD_BLOCK. Throws IoError. */
  receive(channel: ByteChannel, limit: number): number {
    if (this.start === this.end) this.#rewind();
    let buffer = this.buffer;
    if (buffer === undefined) {
      buffer = this.#pool.take(BATCH_SIZE);
      this.buffer = buffer;
    } else if (this.end === buffer.bytes.length) {
      buffer = this.#compact(buffer);
    }
    const received = channel.receive(
      buffer,
      this.end,
      Math.min(limit, buffer.bytes.length - this.end),
    );
    if (received > 0) {
      this.end += received;
      this.heard = this.#clock.nextHeard();
    }
    return received;
  }

  /** Makes sure that `length` bytes (at most BATCH_SIZE) from `start` on fit, once they are received. */
  makeRoom(length: number): void {
    const buffer = this.buffer;
    if (buffer !== undefined && this.start + length > buffer.bytes.length) this.#compact(buffer);
  }

  /** Keeps the bytes that `buffer` holds in their place until unpin(buffer). */
  pin(): IoBuffer {
    this.#pins++;
    return this.buffer as IoBuffer;
  }

  unpin(buffer: IoBuffer): void {
    if (buffer === this.buffer) this.#pins--;
    else this.#retired.release(buffer);
  }

  /** Lets go of the buffer if nothing is in it. */
  releaseIdle(): void {
    if (this.start !== this.end || this.buffer === undefined || this.#pins > 0) return;
    this.#pool.give(this.buffer);
    this.buffer = undefined;
    this.start = 0;
    this.end = 0;
  }

  /** Forgets what is unread. */
  discard(): void {
    this.start = this.end;
    this.releaseIdle();
  }

  #rewind(): void {
    if (this.#pins > 0) return;
    this.start = 0;
    this.end = 0;
  }

  /** Moves what is unread to the front, of another buffer if requests still read from this one. */
  #compact(buffer: IoBuffer): IoBuffer {
    const unread = this.end - this.start;
    let target = buffer;
    if (this.#pins > 0) {
      this.#retired.retire(buffer, this.#pins);
      this.#pins = 0;
      target = this.#pool.take(BATCH_SIZE);
    }
    if (unread > 0) buffer.bytes.copy(target.bytes, 0, this.start, this.end);
    this.buffer = target;
    this.start = 0;
    this.end = unread;
    return target;
  }
}
