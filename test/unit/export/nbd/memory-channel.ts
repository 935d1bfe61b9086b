// A byte channel over arrays, for tests of what reads from and writes to one: takes and gives as much at a time as it is told.

import type { IoBuffer } from '../../../../src/base/io-buffer.ts';
import { type ByteChannel, WOULD_BLOCK } from '../../../../src/net/byte-channel.ts';

export class MemoryChannel implements ByteChannel {
  readonly peer = 'memory';
  onReadable = (): void => {};
  onWritable = (): void => {};
  /** What receive() still gives. */
  incoming: Buffer = Buffer.alloc(0);
  readonly sent: Buffer[] = [];
  /** Bytes that send() takes before it blocks. */
  room = Infinity;
  /** Bytes that one call moves at most. */
  piece = Infinity;
  /** For tests of data that come from files. */
  sendFile?: NonNullable<ByteChannel['sendFile']>;
  /** For tests of data that are in several places. */
  sendParts?: NonNullable<ByteChannel['sendParts']>;
  /** For tests of data that come out of pipes. */
  sendFrom?: NonNullable<ByteChannel['sendFrom']>;

  wantReadable(): void {}
  wantWritable(): void {}

  receive(into: IoBuffer, at: number, max: number): number {
    const length = Math.min(max, this.incoming.length, this.piece);
    if (length === 0) return WOULD_BLOCK;
    this.incoming.copy(into.bytes, at, 0, length);
    this.incoming = this.incoming.subarray(length);
    return length;
  }

  send(from: IoBuffer, at: number, length: number): number {
    const taken = Math.min(length, this.room, this.piece);
    if (taken === 0) return WOULD_BLOCK;
    this.room -= taken;
    this.sent.push(Buffer.from(from.bytes.subarray(at, at + taken)));
    return taken;
  }

  shutdown(): void {}
  close(): void {}
}
