// Are these bytes all zero? Asked of every write to a node that detects zeroes.

import type { IoBuffer } from '../base/io-buffer.ts';

const CHUNK = 64 * 1024;
const zeroes = Buffer.alloc(CHUNK);

/** True when `length` bytes of `buffer` at `at` are zero. */
export function isZero(buffer: IoBuffer, at: number, length: number): boolean {
  const { bytes } = buffer;
  // Data differ soon: look at the ends and the middle before comparing everything.
  const last = at + length - 1;
  if (bytes[at] !== 0 || bytes[last] !== 0 || bytes[at + (length >>> 1)] !== 0) return false;
  for (let done = 0; done < length; done += CHUNK) {
    const piece = Math.min(CHUNK, length - done);
    if (bytes.compare(zeroes, 0, piece, at + done, at + done + piece) !== 0) return false;
  }
  return true;
}
