// The three parts of a split virtqueue in guest memory (Virtual I/O Device, section 2.7), behind two ways to get at them:
// views of memory that lasts, and copies by the kernel of memory that may be gone. What the driver writes is read once, into
// our own memory, before it is looked at.

import type { IoBuffer } from '../../base/io-buffer.ts';
import { type GuardedCopy, viewOfShared } from '../../sys/shared-memory.ts';
import { VIRTQ_DESC_SIZE } from './protocol.ts';

/** Our addresses of the parts. */
export interface RingAddresses {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** Of the parts, in bytes (Virtual I/O Device, section 2.7). */
export const RING_ALIGNMENT = { descriptors: 16, available: 2, used: 4 } as const;

/** A descriptor as it was when it was read. */
export interface Descriptor {
  /** A guest address, exact below 2^53 and above that at least outside of everything. */
  address: number;
  length: number;
  flags: number;
  next: number;
}

/** Every function may throw IoError when the memory is gone. Indices are 16 bits wide. */
export interface RingMemory {
  /** `idx` of the available ring; entries up to it, and their descriptors, can be read from then on. */
  availableIndex(): number;
  availableFlags(): number;
  availableEntry(slot: number): number;
  /** Where the driver wants to be called. */
  usedEvent(): number;
  usedIndex(): number;
  setUsedEntry(slot: number, head: number, written: number): void;
  /** Makes the entry set last, and those before it, visible to the driver. */
  setUsedIndex(index: number): void;
  setUsedFlags(flags: number): void;
  /** Where we want to be kicked. */
  setAvailableEvent(index: number): void;
  descriptor(index: number, into: Descriptor): void;
}

/** Bytes of the parts of a ring of `size` entries. */
export const descriptorsLength = (size: number): number => VIRTQ_DESC_SIZE * size;
export const availableLength = (size: number): number => 6 + 2 * size;
export const usedLength = (size: number): number => 6 + 8 * size;

/** Reads a descriptor out of a copy of a table. */
export function decodeDescriptor(view: DataView, at: number, into: Descriptor): void {
  into.address = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
  into.length = view.getUint32(at + 8, true);
  into.flags = view.getUint16(at + 12, true);
  into.next = view.getUint16(at + 14, true);
}

// available ring, in 16-bit words: [0] flags [1] idx [2 ..] ring [2 + size] used_event
// used ring, in 16-bit words: [0] flags [1] idx [2 ..] elements of four [2 + 4 size] avail_event
const FLAGS = 0;
const INDEX = 1;
const ENTRIES = 2;

/** Of memory that lasts. Not to be used after the memory has changed. */
export function viewedRing(at: RingAddresses, size: number): RingMemory {
  const table = new Uint32Array(viewOfShared(at.descriptors, descriptorsLength(size)));
  const available = new Uint16Array(viewOfShared(at.available, availableLength(size)));
  const used = new Uint16Array(viewOfShared(at.used, usedLength(size)));
  const elements = new Uint32Array(used.buffer, 4, 2 * size);
  return {
    availableIndex: () => Atomics.load(available, INDEX),
    availableFlags: () => Atomics.load(available, FLAGS),
    availableEntry: (slot) => available[ENTRIES + slot] as number,
    usedEvent: () => Atomics.load(available, ENTRIES + size),
    usedIndex: () => Atomics.load(used, INDEX),
    setUsedEntry(slot, head, written) {
      elements[2 * slot] = head;
      elements[2 * slot + 1] = written;
    },
    setUsedIndex: (index) => void Atomics.store(used, INDEX, index),
    setUsedFlags: (flags) => void Atomics.store(used, FLAGS, flags),
    setAvailableEvent: (index) => void Atomics.store(used, ENTRIES + 4 * size, index),
    descriptor(index, into) {
      const at = index * 4;
      const rest = table[at + 3] as number;
      into.address = (table[at + 1] as number) * 0x1_0000_0000 + (table[at] as number);
      into.length = table[at + 2] as number;
      into.flags = rest & 0xffff;
      into.next = rest >>> 16;
    },
  };
}

// The scratch memory of a copied ring: single fields at 0, then a copy of the available ring and, of a ring that is not too
// large, of the descriptor table behind it.
const COPY = 64;
const USED_ENTRY = 8;

/** Entries of a ring whose table is copied as a whole: cheaper than descriptor by descriptor. */
const LARGEST_COPIED = 1024;

/** Bytes of scratch memory that a copied ring needs. */
export const scratchLength = (size: number): number =>
  COPY + 4 + 2 * size + (size > LARGEST_COPIED ? 0 : descriptorsLength(size));

/** Of any memory. `scratch` holds at least `scratchLength(size)` bytes and is the ring's own. */
export function copiedRing(
  at: RingAddresses,
  size: number,
  guarded: Pick<GuardedCopy, 'keepsOrder' | 'from' | 'to' | 'fromTwo' | 'toTwo'>,
  scratch: IoBuffer,
): RingMemory {
  const { view, address } = scratch;
  const table = size > LARGEST_COPIED ? -1 : COPY + 4 + 2 * size;
  let usedEntry = 0;
  const read = (theirs: number): number => {
    guarded.from(theirs, address, 2);
    return view.getUint16(0, true);
  };
  const write = (theirs: number, value: number): void => {
    view.setUint16(0, value, true);
    guarded.to(theirs, address, 2);
  };
  return {
    availableIndex() {
      const length = 4 + 2 * size;
      // Entries and descriptors must be at least as new as the index. In one copy they are if it keeps the order: the index lies
      // in front of them. If not, the index of that copy is too new for the rest of it, and one that was read before it counts.
      const before = guarded.keepsOrder ? -1 : read(at.available + 2);
      if (table < 0) guarded.from(at.available, address + COPY, length);
      else {
        const { available, descriptors } = at;
        guarded.fromTwo(available, length, descriptors, descriptorsLength(size), address + COPY);
      }
      return before < 0 ? view.getUint16(COPY + 2, true) : before;
    },
    availableFlags: () => read(at.available),
    availableEntry: (slot) => view.getUint16(COPY + 4 + 2 * slot, true),
    usedEvent: () => read(at.available + 4 + 2 * size),
    usedIndex: () => read(at.used + 2),
    setUsedEntry(slot, head, written) {
      view.setUint32(USED_ENTRY, head, true);
      view.setUint32(USED_ENTRY + 4, written, true);
      usedEntry = at.used + 4 + 8 * slot;
    },
    setUsedIndex(index) {
      view.setUint16(USED_ENTRY + 8, index, true);
      guarded.toTwo(usedEntry, 8, at.used + 2, 2, address + USED_ENTRY);
    },
    setUsedFlags: (flags) => write(at.used, flags),
    setAvailableEvent: (index) => write(at.used + 4 + 8 * size, index),
    descriptor(index, into) {
      if (table >= 0) {
        decodeDescriptor(view, table + VIRTQ_DESC_SIZE * index, into);
        return;
      }
      guarded.from(at.descriptors + VIRTQ_DESC_SIZE * index, address, VIRTQ_DESC_SIZE);
      decodeDescriptor(view, 0, into);
    },
  };
}
