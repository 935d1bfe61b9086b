// Are these bytes all zero? Asked of every write to a node that detects zeroes.

import type { IoBuffer } from '../base/io-buffer.ts';

/** True when `length` bytes of `buffer` at `at` are zero. `zeroes`: any amount of them to compare with. */
export function isZero(buffer: IoBuffer, at: number, length: number, zeroes: IoBuffer): boolean {
  const { bytes } = buffer;
  // Data differ soon: look at the ends and the middle before comparing everything.
  const last = at + length - 1;
  if (bytes[at] !== 0 || bytes[last] !== 0 || bytes[at + (length >>> 1)] !== 0) return false;
  const chunk = zeroes.bytes.length;
  for (let done = 0; done < length; done += chunk) {
    const piece = Math.min(chunk, length - done);
    if (bytes.compare(zeroes.bytes, 0, piece, at + done, at + done + piece) !== 0) return false;
  }
  return true;
}
