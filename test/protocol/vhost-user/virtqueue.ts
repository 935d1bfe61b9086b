// The driver's side of a split virtqueue (virtio 1.x, 2.7), with indirect descriptors and the event index. The raw parts are
// open, so that a hostile test can put anything anywhere.

import type { GuestMemory } from './guest-memory.ts';

export const DESCRIPTOR_F = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
export const DESCRIPTOR_LENGTH = 16;

/** Descriptors in an indirect table of ours, at most: header, status, and the reference's 126 segments. */
const MAX_INDIRECT = 128;

const AVAILABLE_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;

/** A piece of guest memory that belongs to a request. */
export interface Piece {
  readonly address: number;
  readonly length: number;
  /** For the device to write into. */
  readonly writable: boolean;
}

export interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

export interface VirtqueueOptions {
  readonly index?: number;
  readonly size?: number;
  readonly indirect?: boolean;
  readonly eventIndex?: boolean;
}

export class Virtqueue {
  readonly memory: GuestMemory;
  readonly index: number;
  readonly size: number;
  /** Offsets of the three parts in the main region. */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly #indirect: boolean;
  readonly #eventIndex: boolean;
  readonly #view: DataView;
  readonly #tables: number;
  readonly #next: Uint16Array;
  readonly #chainLength: Uint16Array;
  readonly #fence = new Int32Array(1);
  #free = 0;
  #freeCount: number;
  #availableIndex = 0;
  #kickedIndex = 0;
  #usedIndex = 0;

  constructor(memory: GuestMemory, options: VirtqueueOptions = {}) {
    this.memory = memory;
    this.index = options.index ?? 0;
    this.size = options.size ?? 128;
    this.#indirect = options.indirect ?? false;
    this.#eventIndex = options.eventIndex ?? false;
    this.#view = memory.view;
    this.descriptors = memory.allocate(this.size * DESCRIPTOR_LENGTH);
    this.available = memory.allocate(6 + this.size * 2, 2);
    this.used = memory.allocate(6 + this.size * 8, 4);
    this.#tables = this.#indirect
      ? memory.allocate(this.size * MAX_INDIRECT * DESCRIPTOR_LENGTH)
      : 0;
    this.#next = Uint16Array.from({ length: this.size }, (_, each) => each + 1);
    this.#chainLength = new Uint16Array(this.size);
    this.#freeCount = this.size;
  }

  /** How many entries the device has used so far (counts on beyond 65535 from 0). */
  get usedIndex(): number {
    return this.#view.getUint16(this.used + 2, true);
  }

  /** Offset of the index with which the device wants to be kicked. */
  get availableEvent(): number {
    return this.used + 4 + this.size * 8;
  }

  /** Where a device that takes this queue up is to go on: the index of the next available entry. */
  get nextAvailable(): number {
    return this.#availableIndex;
  }

  /** Begins at another index than 0, with nothing in flight. */
  startAt(index: number): void {
    this.setAvailableIndex(index);
    this.#kickedIndex = index;
    this.#usedIndex = index;
    this.#view.setUint16(this.used + 2, index, true);
    this.#view.setUint16(this.available + 4 + this.size * 2, index, true);
    this.#view.setUint16(this.availableEvent, index, true);
  }

  /** Free descriptors. */
  get room(): number {
    return this.#freeCount;
  }

  /** Makes a request available, without a kick; its head. Throws when the ring is full. */
  add(pieces: readonly Piece[]): number {
    const entries = this.#indirect && pieces.length > 1 ? 1 : pieces.length;
    if (entries > this.#freeCount) throw new Error('the virtqueue is full');
    const head = this.#free;
    if (entries < pieces.length) this.#writeIndirect(head, pieces);
    else this.#writeChain(head, pieces);
    this.#chainLength[head] = entries;
    this.#freeCount -= entries;
    this.makeAvailable(head);
    return head;
  }

  /** Offers the chain that begins at descriptor `head`, whatever is there. */
  makeAvailable(head: number): void {
    const slot = this.#availableIndex % this.size;
    this.#view.setUint16(this.available + 4 + slot * 2, head, true);
    this.setAvailableIndex(this.#availableIndex + 1);
  }

  setAvailableIndex(index: number): void {
    this.#availableIndex = index & 0xffff;
    this.#view.setUint16(this.available + 2, this.#availableIndex, true);
  }

  /** Writes a descriptor of the ring, or of the table at `table`. */
  setDescriptor(index: number, descriptor: Descriptor, table = this.descriptors): void {
    const at = table + index * DESCRIPTOR_LENGTH;
    setUint64(this.#view, at, descriptor.address);
    this.#view.setUint32(at + 8, descriptor.length, true);
    this.#view.setUint16(at + 12, descriptor.flags ?? 0, true);
    this.#view.setUint16(at + 14, descriptor.next ?? 0, true);
  }

  /** Whether the device wants to be told of what was made available since the last time this was asked. */
  needsKick(): boolean {
    // What was made available must be seen before the device's wish is read.
    Atomics.add(this.#fence, 0, 1);
    const from = this.#kickedIndex;
    this.#kickedIndex = this.#availableIndex;
    if (!this.#eventIndex) return (this.#view.getUint16(this.used, true) & USED_F_NO_NOTIFY) === 0;
    const event = this.#view.getUint16(this.availableEvent, true);
    return passed(event, this.#availableIndex, from);
  }

  /** Hands each used entry to `take` and frees its descriptors; how many there were. Asks to be told of the next one. */
  reap(take: (head: number, length: number) => void): number {
    let count = 0;
    for (;;) {
      while (this.#usedIndex !== this.usedIndex) {
        const at = this.used + 4 + (this.#usedIndex % this.size) * 8;
        const head = this.#view.getUint32(at, true);
        this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
        this.#release(head);
        take(head, this.#view.getUint32(at + 4, true));
        count++;
      }
      if (!this.#eventIndex) return count;
      this.#view.setUint16(this.available + 4 + this.size * 2, this.#usedIndex, true);
      Atomics.add(this.#fence, 0, 1);
      if (this.#usedIndex === this.usedIndex) return count;
    }
  }

  /** Tells the device that nobody waits for completions (without the event index). */
  setNoInterrupt(quiet: boolean): void {
    this.#view.setUint16(this.available, quiet ? AVAILABLE_F_NO_INTERRUPT : 0, true);
  }

  #writeChain(head: number, pieces: readonly Piece[]): void {
    let index = head;
    let left = pieces.length;
    for (const piece of pieces) {
      const next = this.#next[index] ?? 0;
      this.#writePiece(this.descriptors + index * DESCRIPTOR_LENGTH, piece, --left > 0 ? next : -1);
      index = next;
    }
    this.#free = index;
  }

  #writeIndirect(head: number, pieces: readonly Piece[]): void {
    const table = this.#tables + head * MAX_INDIRECT * DESCRIPTOR_LENGTH;
    let each = 0;
    for (const piece of pieces) {
      const at = table + each * DESCRIPTOR_LENGTH;
      each += 1;
      this.#writePiece(at, piece, each < pieces.length ? each : -1);
    }
    const at = this.descriptors + head * DESCRIPTOR_LENGTH;
    setUint64(this.#view, at, this.memory.guestAddress(table));
    this.#view.setUint32(at + 8, pieces.length * DESCRIPTOR_LENGTH, true);
    this.#view.setUint16(at + 12, DESCRIPTOR_F.INDIRECT, true);
    this.#free = this.#next[head] ?? 0;
  }

  #writePiece(at: number, piece: Piece, next: number): void {
    setUint64(this.#view, at, piece.address);
    this.#view.setUint32(at + 8, piece.length, true);
    const flags = (piece.writable ? DESCRIPTOR_F.WRITE : 0) | (next >= 0 ? DESCRIPTOR_F.NEXT : 0);
    this.#view.setUint16(at + 12, flags, true);
    this.#view.setUint16(at + 14, Math.max(next, 0), true);
  }

  #release(head: number): void {
    const entries = this.#chainLength[head];
    if (entries === undefined || entries === 0)
      throw new Error(`the device used ${head}, which it does not have`);
    this.#chainLength[head] = 0;
    let last = head;
    for (let each = 1; each < entries; each++) last = this.#next[last] ?? 0;
    this.#next[last] = this.#free;
    this.#free = head;
    this.#freeCount += entries;
  }
}

/** Whether an index that went from `before` to `now` went past `event`, all of 16 bits (virtio 1.x, 2.7.10). */
function passed(event: number, now: number, before: number): boolean {
  return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
}

function setUint64(view: DataView, at: number, value: number | bigint): void {
  if (typeof value === 'bigint') return view.setBigUint64(at, value, true);
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
