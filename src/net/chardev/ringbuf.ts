// The chardev that keeps the last bytes written to it, for ringbuf-read.

import { errno, strerror } from '../../base/errno.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { ChardevRingbuf } from '../../qapi/generated/types.ts';
import type { ChardevPort, PortContext } from './chardev.ts';

const DEFAULT_BYTES = 65536;
const UINT64_MASK = 2n ** 64n - 1n;

/** What a ring buffer chardev is connected to: its own memory. */
export class RingbufPort implements ChardevPort {
  readonly #kind: 'ringbuf' | 'memory';
  readonly #ring: Buffer;
  #start = 0;
  #count = 0;

  constructor(kind: 'ringbuf' | 'memory', ring: Buffer) {
    this.#kind = kind;
    this.#ring = ring;
  }

  filename(): string {
    return this.#kind;
  }

  /** Keeps the bytes; those that no longer fit push the oldest out. */
  write(bytes: Uint8Array): boolean {
    const size = this.#ring.length;
    const kept = bytes.length > size ? bytes.subarray(bytes.length - size) : bytes;
    if (kept.length === 0) return true;
    const end = (this.#start + this.#count) % size;
    const first = kept.subarray(0, size - end);
    this.#ring.set(first, end);
    this.#ring.set(kept.subarray(first.length), 0);
    const lost = Math.max(0, this.#count + kept.length - size);
    this.#start = (this.#start + lost) % size;
    this.#count += kept.length - lost;
    return true;
  }

  /** Takes up to `max` of the oldest bytes out. */
  read(max: number): Buffer {
    // Compared, not Math.min: a very large number comes as a BigInt.
    const length = max > this.#count ? this.#count : max;
    const first = this.#ring.subarray(this.#start, this.#start + length);
    const second = this.#ring.subarray(0, length - first.length);
    const bytes = Buffer.concat([first, second]);
    this.#start = (this.#start + length) % (this.#ring.length || 1);
    this.#count -= length;
    return bytes;
  }

  acceptInput(): void {}

  close(): void {}
}

export function openRingbuf(
  kind: 'ringbuf' | 'memory',
  options: ChardevRingbuf,
  context: PortContext,
): ChardevPort {
  // The reference takes it for an unsigned number.
  const size = BigInt(options.size ?? DEFAULT_BYTES) & UINT64_MASK;
  if ((size & (size - 1n)) !== 0n) {
    throw new QmpError('size of ringbuf chardev must be power of two');
  }
  let ring: Buffer;
  try {
    ring = Buffer.alloc(Number(size));
  } catch (error) {
    // The reference ends here.
    throw new QmpError(
      `Could not allocate a ring buffer of ${size} bytes: ${strerror(errno.ENOMEM)}`,
      { cause: error },
    );
  }
  context.events.opened();
  return new RingbufPort(kind, ring);
}
