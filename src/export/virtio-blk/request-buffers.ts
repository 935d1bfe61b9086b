// What the device sees of a request: bytes to read and bytes to write, wherever the transport has them.

import type { IoBuffer } from '../../base/io-buffer.ts';

/** Both copies throw IoError when the driver's memory is not there any more. */
export interface RequestBuffers {
  /** Bytes that the driver gives. */
  readonly readable: number;
  /** Bytes that it takes. */
  readonly writable: number;
  /** Copies readable bytes from `from` on. */
  take(from: number, length: number, into: IoBuffer, at: number): void;
  /** Copies to the writable bytes from `to` on. */
  put(to: number, length: number, from: IoBuffer, at: number): void;
}
