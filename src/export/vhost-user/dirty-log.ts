// Which pages of guest memory were written to: a bitmap in memory of the frontend's, which reads and clears it while it moves
// the guest to another machine.

import { ProtocolError } from '../../base/errors.ts';
import {
  mapShared,
  type SharedMapping,
  unmapShared,
  viewOfShared,
} from '../../sys/shared-memory.ts';
import { VirtqueueError } from './virtqueue-error.ts';

/** Bytes that a bit stands for, whatever the machine's pages are. */
const VHOST_LOG_PAGE = 4096;
/** Bytes of a log that can be looked at as one: bits for 128 TiB of guest addresses. */
const MAX_LOG_SIZE = 2 ** 32;

export class DirtyLog {
  readonly #mapping: SharedMapping;
  readonly #bits: Uint8Array;

  /** Maps the log; the descriptor is not needed any more then. Throws ProtocolError or IoError. */
  constructor(fd: number, offset: number, size: number) {
    if (size > MAX_LOG_SIZE) throw new ProtocolError('log size', size, `at most ${MAX_LOG_SIZE}`);
    this.#mapping = mapShared(fd, offset, size);
    if (!this.#mapping.lasting) {
      unmapShared(this.#mapping);
      // Bits have to be set atomically, which copies cannot do.
      throw new ProtocolError('log file', 'one that can shrink', 'one sealed against that');
    }
    this.#bits = new Uint8Array(viewOfShared(this.#mapping.address, size));
  }

  /** Marks what was written to. Throws VirtqueueError when that is outside of the log. */
  mark(guestAddress: number, length: number): void {
    if (length === 0) return;
    const last = Math.floor((guestAddress + length - 1) / VHOST_LOG_PAGE);
    if (last >= this.#bits.length * 8)
      throw new VirtqueueError('memory that the log has no bit for');
    for (let page = Math.floor(guestAddress / VHOST_LOG_PAGE); page <= last; page++) {
      Atomics.or(this.#bits, Math.floor(page / 8), 1 << (page % 8));
    }
  }

  /** Nothing may be marked any more. */
  close(): void {
    unmapShared(this.#mapping);
  }
}
