// Memory for requests that cannot be served from the caller's: widened to an alignment, or zeroes to be written.

import type { IoBuffer } from '../base/io-buffer.ts';

/** Bounce buffers are powers of two from here ... */
const SMALLEST = 4096;
/** ... to here, the largest piece in which zeroes are written. */
export const LARGEST_BOUNCE = 1024 * 1024;
/** How many of each size are kept for the next request, at least. */
const KEPT = 8;

export class BouncePool {
  readonly #allocate: (length: number) => IoBuffer;
  readonly #keptBytes: number;
  readonly #free = new Map<number, IoBuffer[]>();
  #zeroes: IoBuffer | undefined = undefined;

  /**
   * `allocate` gives zeroed, page-aligned memory of exactly that length. A user with many requests under way says how many
   * bytes of each size are kept at least.
   */
  constructor(
    allocate: (length: number) => IoBuffer,
    { keptBytes = 0 }: { readonly keptBytes?: number } = {},
  ) {
    this.#allocate = allocate;
    this.#keptBytes = keptBytes;
  }

  /** At least `length` bytes of any content. Give it back unless a request that uses it failed to settle. */
  take(length: number): IoBuffer {
    const size = sizeClass(length);
    return this.#free.get(size)?.pop() ?? this.#allocate(size);
  }

  give(buffer: IoBuffer): void {
    const size = buffer.bytes.length;
    if (size !== sizeClass(size) || size > LARGEST_BOUNCE) return;
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [buffer]);
    else if (free.length < KEPT || free.length * size < this.#keptBytes) free.push(buffer);
  }

  /** LARGEST_BOUNCE zero bytes, shared: to be read only. */
  get zeroes(): IoBuffer {
    // Never written, so the kernel needs no memory for it.
    this.#zeroes ??= this.#allocate(LARGEST_BOUNCE);
    return this.#zeroes;
  }
}

function sizeClass(length: number): number {
  let size = SMALLEST;
  while (size < length) size *= 2;
  return size;
}
