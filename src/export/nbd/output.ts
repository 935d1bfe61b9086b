// What a connection has to send. Replies are written straight into its buffer, data behind header, and leave together. A
// reply whose data come later keeps its place (defer) while others are written behind it and sent before it.

import type { DataPipe } from '../../base/data-pipe.ts';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import type { FileRange } from '../../block/block-driver.ts';
import { type ByteChannel, type Part, WOULD_BLOCK } from '../../net/byte-channel.ts';
import { preadNow } from '../../sys/file.ts';
import { BATCH_SIZE, type BufferPool } from './buffer-pool.ts';
import { RetiredBuffers } from './retired-buffers.ts';

const PAGE = 4096;

/** A place in a buffer: a reply that is being made, or one that waits to be sent. */
export type Region = Part;

interface Queued extends Region {
  length: number;
  /** Where the bytes are instead. */
  readonly pipe: DataPipe | undefined;
}

export class Output {
  /** The bytes from #start to #end of it are ready and unsent; behind #end the next reply is written. */
  #buffer: IoBuffer | undefined;
  #start = 0;
  #end = 0;
  /** Regions in #buffer that are deferred or queued. */
  #held = 0;
  readonly #retired: RetiredBuffers;
  /** Regions to be sent before the bytes from #start to #end. No two in a row are one. */
  readonly #queue: Queued[] = [];
  #queueSent = 0;
  #unsent = 0;
  readonly #pool: BufferPool;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#retired = new RetiredBuffers(pool);
  }

  /** Bytes that are ready and unsent. */
  get length(): number {
    return this.#unsent;
  }

  /** The buffer that reserve() made room in. */
  get buffer(): IoBuffer {
    return this.#buffer as IoBuffer;
  }

  /** Makes room for `length` bytes in `buffer` and tells where. Nothing is sent before commit() or defer(). */
  reserve(length: number): number {
    const buffer = this.#buffer;
    if (buffer !== undefined && this.#end + length <= buffer.bytes.length) return this.#end;
    this.#replace(length);
    return this.#end;
  }

  /** As reserve, with the byte at `header` from the start on a page boundary: for large data, and for direct I/O. */
  reserveAligned(header: number, length: number): number {
    const at = this.reserve(length + PAGE);
    const aligned = Math.ceil((at + header) / PAGE) * PAGE - header;
    if (aligned !== at) this.#skipTo(aligned);
    return aligned;
  }

  /** The `length` bytes from where reserve() said are ready. */
  commit(length: number): void {
    this.#end += length;
    this.#unsent += length;
  }

  /** Takes `length` bytes from where reserve() said out of the stream, until complete() or abandon(). */
  defer(length: number): Region {
    const region = { buffer: this.buffer, at: this.#end, length };
    this.#held++;
    this.#skipTo(this.#end + length);
    return region;
  }

  /** A deferred region is ready. */
  complete(region: Region): void {
    this.#enqueueTail();
    const { buffer, at, length } = region;
    this.#unsent += length;
    // What it continues keeps the buffer.
    if (length === 0 || this.#continues(buffer, at, length)) this.#letGo(buffer);
    else this.#queue.push({ buffer, at, length, pipe: undefined });
  }

  /** A deferred region is not needed: its bytes are in a pipe, which is the output's from now on. */
  completeWith(pipe: DataPipe, region: Region): void {
    this.#enqueueTail();
    const { length } = pipe;
    this.#unsent += length;
    this.#queue.push({ ...region, length, pipe });
    this.#letGo(region.buffer);
  }

  /** A deferred region is not needed. */
  abandon(region: Region): void {
    this.#letGo(region.buffer);
  }

  /** Copies bytes to the end of the stream. */
  append(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const part = Math.min(bytes.length - at, BATCH_SIZE);
      const place = this.reserve(part);
      bytes.copy(this.buffer.bytes, place, at, at + part);
      this.commit(part);
      at += part;
    }
  }

  /** Sends what is ready. False when the peer takes no more for now. Throws IoError. */
  flush(channel: ByteChannel): boolean {
    // What is behind them leaves with them.
    if (this.#queue.length > 0) this.#enqueueTail();
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const sent = this.#sendFirst(channel, first);
      if (sent === WOULD_BLOCK) return false;
      this.#pass(sent);
    }
    const buffer = this.#buffer;
    if (buffer === undefined) return true;
    while (this.#start < this.#end) {
      const sent = channel.send(buffer, this.#start, this.#end - this.#start);
      if (sent === WOULD_BLOCK) return false;
      this.#start += sent;
      this.#unsent -= sent;
    }
    if (this.#held === 0) {
      this.#start = 0;
      this.#end = 0;
    }
    return true;
  }

  /**
   * Sends a header, then a range of a file that is in the page cache, straight from there. To be called with nothing unsent.
   * What the peer does not take at once is read into the buffer: the range is good for now only. False when it takes
   * nothing; then nothing was done. Throws IoError.
   */
  sendFile(
    channel: ByteChannel,
    header: { readonly size: number; write(buffer: IoBuffer, at: number): void },
    range: FileRange,
    length: number,
  ): boolean {
    const size = header.size + length;
    const at = this.reserve(size);
    const { buffer } = this;
    header.write(buffer, at);
    const sent = channel.sendFile?.(buffer, at, header.size, range, length) ?? WOULD_BLOCK;
    if (sent === WOULD_BLOCK) return false;
    if (sent === size) return true;
    const from = Math.max(0, sent - header.size);
    readRange(range, from, length - from, buffer, at + header.size + from);
    this.#start += sent;
    this.#end += size;
    this.#unsent += size - sent;
    return true;
  }

  /** Lets go of the buffer if nothing is in it. */
  releaseIdle(): void {
    if (this.#buffer === undefined || this.#start !== this.#end || this.#held > 0) return;
    this.#pool.give(this.#buffer);
    this.#buffer = undefined;
    this.#start = 0;
    this.#end = 0;
  }

  /** Forgets what is unsent. Deferred regions must have ended. */
  discard(): void {
    for (const queued of this.#queue.splice(0)) this.#forget(queued);
    this.#queueSent = 0;
    this.#start = this.#end;
    this.#unsent = 0;
    this.releaseIdle();
  }

  /** Goes on in another buffer of at least `length` bytes. */
  #replace(length: number): void {
    this.#enqueueTail();
    const buffer = this.#buffer;
    if (buffer !== undefined) {
      if (this.#held > 0) this.#retired.retire(buffer, this.#held);
      else this.#pool.give(buffer);
    }
    this.#held = 0;
    this.#buffer = this.#pool.take(Math.max(length, BATCH_SIZE));
    this.#start = 0;
    this.#end = 0;
  }

  #skipTo(at: number): void {
    this.#enqueueTail();
    this.#start = at;
    this.#end = at;
  }

  /** Makes the bytes that are ready a region of their own. */
  #enqueueTail(): void {
    const length = this.#end - this.#start;
    if (length === 0) return;
    if (!this.#continues(this.buffer, this.#start, length)) {
      this.#queue.push({ buffer: this.buffer, at: this.#start, length, pipe: undefined });
      this.#held++;
    }
    this.#start = this.#end;
  }

  /** Adds bytes to the last region of the queue if they lie behind it: what is one piece leaves with one system call. */
  #continues(buffer: IoBuffer, at: number, length: number): boolean {
    const last = this.#queue.at(-1);
    if (last?.buffer !== buffer || last.at + last.length !== at || last.pipe) return false;
    last.length += length;
    return true;
  }

  /** What leaves with one system call. */
  #sendFirst(channel: ByteChannel, first: Queued): number {
    if (first.pipe !== undefined) return channel.sendFrom?.(first.pipe) ?? WOULD_BLOCK;
    const skip = this.#queueSent;
    let count = 1;
    while (count < this.#queue.length && this.#queue[count]?.pipe === undefined) count++;
    if (count === 1 || channel.sendParts === undefined) {
      return channel.send(first.buffer, first.at + skip, first.length - skip);
    }
    return channel.sendParts(this.#queue, count, skip);
  }

  /** So many bytes of the queue have left. */
  #pass(sent: number): void {
    this.#unsent -= sent;
    let left = this.#queueSent + sent;
    for (;;) {
      const first = this.#queue[0];
      if (first === undefined || left < first.length) break;
      left -= first.length;
      this.#queue.shift();
      this.#forget(first);
    }
    this.#queueSent = left;
  }

  #forget(queued: Queued): void {
    if (queued.pipe === undefined) this.#letGo(queued.buffer);
    else queued.pipe.release();
  }

  #letGo(buffer: IoBuffer): void {
    if (buffer === this.#buffer) this.#held--;
    else this.#retired.release(buffer);
  }
}

/** Reads from a range of a file; what lies beyond its end reads as zeroes. Throws IoError. */
function readRange(
  range: FileRange,
  from: number,
  length: number,
  into: IoBuffer,
  at: number,
): void {
  for (let done = 0; done < length; ) {
    const offset = range.offset + from + done;
    const count = preadNow(range.fd, into.address + at + done, length - done, offset);
    if (count === 0) {
      into.bytes.fill(0, at + done, at + length);
      return;
    }
    if (count > 0) done += count;
    else if (count !== -errno.EINTR) throw new IoError(-count, { syscall: 'pread', offset });
  }
}
