// A connected byte stream that never blocks: a plain socket now, TLS behind the same interface later. The owner pulls and
// pushes; readiness is announced through two callbacks.

import type { DataPipe } from '../base/data-pipe.ts';
import type { IoBuffer } from '../base/io-buffer.ts';

/** What receive and send answer when the kernel has nothing to give or no room: wait for the callback. */
export const WOULD_BLOCK = -1;

/** What is said when receive or send fails, before the reason. */
export interface ChannelFailures {
  readonly read: string;
  readonly write: string;
}

export const socketFailures: ChannelFailures = {
  read: 'Unable to read from socket',
  write: 'Unable to write to socket',
};

/** Bytes somewhere in memory. */
export interface Part {
  readonly buffer: IoBuffer;
  readonly at: number;
  readonly length: number;
}

export interface ByteChannel {
  /** Who is at the other end, for logs: `unix:`, `127.0.0.1:50422`, ... */
  readonly peer: string;
  /** Who it has proved to be: the distinguished name of its certificate, or the user whose key it has. */
  readonly identity?: string | undefined;
  /** Default: socketFailures. */
  readonly failures?: ChannelFailures;
  /** Receive asks the kernel: it may find something that was not there a microsecond ago. */
  readonly unbuffered?: boolean;
  /** Called when receive may have something, for as long as `wantReadable(true)`. Must not throw. */
  onReadable: () => void;
  /** Called when send may have room, for as long as `wantWritable(true)`. Must not throw. */
  onWritable: () => void;
  wantReadable(want: boolean): void;
  wantWritable(want: boolean): void;
  /** Bytes received into `into` at `at` (1..max), 0 at end of stream, or WOULD_BLOCK. Throws IoError. */
  receive(into: IoBuffer, at: number, max: number): number;
  /** Bytes taken from `from` at `at` (1..length), or WOULD_BLOCK. Throws IoError (EPIPE, ECONNRESET). */
  send(from: IoBuffer, at: number, length: number): number;
  /** As send, for the first `count` of `parts` one behind the other, without the first `skip` bytes. */
  sendParts?(parts: readonly Part[], count: number, skip: number): number;
  /**
   * Bytes taken of a header (`headerLength` bytes, 1 or more, of `from` at `at`) and `length` bytes of a file behind it, or
   * WOULD_BLOCK when none were; fewer than there are also where the file ends. Throws as send. Where there is no such
   * function, data are read and sent.
   */
  sendFile?(
    from: IoBuffer,
    at: number,
    headerLength: number,
    file: { readonly fd: number; readonly offset: number },
    length: number,
  ): number;
  /** As receive, to the end of a pipe. WOULD_BLOCK may mean that this is not possible: receive tells. */
  receiveInto?(pipe: DataPipe, max: number): number;
  /** Bytes taken from a pipe that is not empty, or WOULD_BLOCK. Throws as send. */
  sendFrom?(pipe: DataPipe): number;
  /** Ends both directions at once; a peer that is reading sees end of stream. */
  shutdown(): void;
  /** Releases the descriptor. No callback after this. Idempotent. */
  close(): void;
}
