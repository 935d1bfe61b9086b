// Requests under way, noted in memory that outlives this program (vhost-user, "Inflight I/O tracking", split virtqueue): the
// frontend keeps it and hands it to the next backend, which then knows what was taken and never given back. Its content is
// the frontend's to change, and so is checked like any other input.

import { VirtqueueError } from './virtqueue-error.ts';

/** The version of the layout; 0 in memory that nobody has used yet. */
const VERSION = 1;
const ALIGNMENT = 64;
/** Of a counter, so that it stays exact. */
const COUNTER_BITS = 52;

// A queue's area, little endian:
//   [ 0 ..  7]  features          [ 8 ..  9]  version         [10 .. 11]  desc_num
//   [12 .. 13]  last_batch_head   [14 .. 15]  used_idx        [16 ..   ]  one entry for each descriptor:
//   entry [0] inflight  [1 .. 5] padding  [6 .. 7] next  [8 .. 15] counter
const HEADER = 16;
const ENTRY = 16;

/** Bytes of the area of one queue. */
export function inflightLength(queueSize: number): number {
  return Math.ceil((HEADER + ENTRY * queueSize) / ALIGNMENT) * ALIGNMENT;
}

export class InflightQueue {
  readonly #view: DataView;
  readonly #size: number;
  /** Grows with each request taken: the order in which they were. */
  #counter = 0;

  /** `memory` is the queue's area, in memory that lasts; `size` what the frontend says it was made for. */
  constructor(memory: ArrayBuffer, size: number) {
    this.#view = new DataView(memory);
    this.#size = size;
  }

  /**
   * What a predecessor has left: the requests to be served once more, the first one last, and the entry of the available ring
   * to go on with. Neither in a new area. Throws VirtqueueError.
   */
  recover(used: number): { readonly next: number | undefined; readonly again: number[] } {
    const view = this.#view;
    if (view.getUint16(8, true) === 0) {
      view.setUint16(8, VERSION, true);
      view.setUint16(10, this.#size, true);
      view.setUint16(14, used, true);
      return { next: undefined, again: [] };
    }
    if (view.getUint16(14, true) !== used) {
      // It ended between giving a request back and noting that.
      const head = view.getUint16(12, true);
      if (head >= this.#size) throw new VirtqueueError(`inflight request ${head} of ${this.#size}`);
      view.setUint8(this.#entry(head), 0);
      view.setUint16(14, used, true);
    }
    const found: { readonly head: number; readonly counter: bigint }[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (view.getUint8(this.#entry(head)) !== 1) continue;
      found.push({ head, counter: view.getBigUint64(this.#entry(head) + 8, true) });
    }
    found.sort((a, b) => (a.counter < b.counter ? 1 : -1));
    const again = found.map(({ head }) => head);
    this.#counter = Number(BigInt.asUintN(COUNTER_BITS, found[0]?.counter ?? 0n)) + 1;
    return { next: (used + again.length) & 0xffff, again };
  }

  taken(head: number): void {
    if (head >= this.#size) throw new VirtqueueError(`inflight request ${head} of ${this.#size}`);
    const at = this.#entry(head);
    this.#view.setUint32(at + 8, this.#counter % 0x1_0000_0000, true);
    this.#view.setUint32(at + 12, Math.floor(this.#counter / 0x1_0000_0000), true);
    this.#counter++;
    this.#view.setUint8(at, 1);
  }

  /** Before the driver can see that the request was given back. */
  giving(head: number): void {
    this.#view.setUint16(12, head, true);
  }

  /** After that, with the used index that it sees. */
  given(head: number, used: number): void {
    this.#view.setUint8(this.#entry(head), 0);
    this.#view.setUint16(14, used, true);
  }

  #entry(head: number): number {
    return HEADER + ENTRY * head;
  }
}
