// Data on their way from one socket to another that nobody has to look at: in a pipe of the kernel's, in place of memory.

import type { IoBuffer } from './io-buffer.ts';

/** A pipe that has one owner and never waits. */
export interface DataPipe {
  /** Bytes in it. */
  readonly length: number;
  /**
   * Moves bytes from a socket to its end: how many (1..max), 0 at end of stream, or WOULD_BLOCK when the socket has none or the
   * pipe has no room. What else keeps it from doing so is WOULD_BLOCK, too: to receive tells what it is.
   */
  fill(fd: number, max: number): number;
  /** Moves bytes to a socket: how many, or WOULD_BLOCK. Throws IoError. */
  drain(fd: number): number;
  /** Adds a few bytes of memory to an empty pipe; false when it does not take them. */
  put(from: IoBuffer, at: number, length: number): boolean;
  /** Moves all there is to memory. */
  empty(into: IoBuffer, at: number): void;
  /** It is not needed any more, whatever is in it. */
  release(): void;
}

/** Who may have a pipe for the data of a read. */
export interface PipeSource {
  /**
   * A pipe for the data but the first `done` bytes, which are in memory and have been put into it, with what lies there before
   * them, perhaps; undefined when there is none to be had. It stays the source's. To be asked once for each read.
   */
  takePipe(done: number): DataPipe | undefined;
}
