// Entries of the L1 and L2 tables: bytes to values and back, into an object that the caller keeps. Entries are big-endian;
// the high half of one is its first word.
//
//   L1   bit 63 COPIED, bits 9..55 offset of the L2 table
//   L2   bit 63 COPIED, bit 62 COMPRESSED, bits 9..55 offset of the cluster, bit 0 zero flag (version 3)
//        extended: a second word pair of a zero bit and an allocation bit for each of 32 subclusters

import type { Geometry } from './image.ts';

/** Flags in the high word of an entry. */
const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
const ZERO_FLAG = 1;
const WORD = 2 ** 32;
const SECTOR = 512;

/** All 32 subclusters, or the one that a cluster without subclusters is. */
export const ALL_SUBCLUSTERS = 0xffffffff;

/** An L2 entry. A cluster without subclusters is treated as having one: bit 0 of the bitmaps. */
export interface L2Entry {
  /** Has a host cluster of its own, at hostOffset. */
  allocated: boolean;
  compressed: boolean;
  /** The host cluster belongs to this entry alone. */
  copied: boolean;
  /** Of the cluster, or of the compressed data. May be unaligned, in an image that is corrupt. */
  hostOffset: number;
  /** Bytes of the sectors that the compressed data lie in; their last sector may hold the start of others. */
  compressedLength: number;
  /** Subclusters that have data here. */
  data: number;
  /** Subclusters that read as zeroes. Not disjoint from `data` in a corrupt image. */
  zero: number;
}

export function emptyEntry(): L2Entry {
  return {
    allocated: false,
    compressed: false,
    copied: false,
    hostOffset: 0,
    compressedLength: 0,
    data: 0,
    zero: 0,
  };
}

/** The 64-bit number at `at`. Above 2^53 it is rounded, which keeps the order. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at) * WORD + view.getUint32(at + 4);
}

export function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / WORD));
  view.setUint32(at + 4, value % WORD);
}

/** Offset of the table that an L1 or refcount table entry points at; 0 for none. May be unaligned. */
export function tableOffset(view: DataView, at: number): number {
  return (view.getUint32(at) & OFFSET_HIGH) * WORD + ((view.getUint32(at + 4) & OFFSET_LOW) >>> 0);
}

/** Says whether the cluster or table of an entry of either table is used by this entry alone. */
export function putCopied(view: DataView, at: number, copied: boolean): void {
  const high = view.getUint32(at);
  view.setUint32(at, copied ? (high | COPIED) >>> 0 : high & 0x7fffffff);
}

export function isCopied(view: DataView, at: number): boolean {
  return (view.getUint32(at) & COPIED) !== 0;
}

export function putTableOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, (Math.floor(offset / WORD) | COPIED) >>> 0);
  view.setUint32(at + 4, offset % WORD);
}

/** Decodes the entry at `at` (bytes) into `into`. */
export function decodeL2(view: DataView, at: number, geometry: Geometry, into: L2Entry): void {
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  into.copied = (high & COPIED) !== 0;
  into.compressed = (high & COMPRESSED) !== 0;
  if (into.compressed) {
    decodeCompressed(high, low, geometry, into);
    return;
  }
  into.hostOffset = (high & OFFSET_HIGH) * WORD + ((low & OFFSET_LOW) >>> 0);
  // In an external data file the first cluster lies at 0: there COPIED tells it from none.
  into.allocated = into.hostOffset !== 0 || (into.copied && geometry.hasDataFile);
  if (geometry.subclusters === 1) {
    into.zero = low & ZERO_FLAG;
    into.data = into.allocated && into.zero === 0 ? 1 : 0;
  } else {
    into.zero = view.getUint32(at + 8);
    into.data = into.allocated ? view.getUint32(at + 12) : 0;
  }
}

function decodeCompressed(high: number, low: number, geometry: Geometry, into: L2Entry): void {
  const offsetBitsInHigh = compressedOffsetBits(geometry) - 32;
  const sectors = (high & (COMPRESSED - 1)) >>> offsetBitsInHigh;
  into.hostOffset = (high & (2 ** offsetBitsInHigh - 1)) * WORD + low;
  into.compressedLength = (sectors + 1) * SECTOR - (into.hostOffset % SECTOR);
  into.allocated = false;
  into.data = 0;
  into.zero = 0;
}

/** A cluster of one's own at `hostOffset`, or none (undefined), with these subclusters. */
export function putL2(
  view: DataView,
  at: number,
  geometry: Geometry,
  entry: { readonly hostOffset: number | undefined; readonly data: number; readonly zero: number },
): void {
  const { hostOffset } = entry;
  const high = hostOffset === undefined ? 0 : (Math.floor(hostOffset / WORD) | COPIED) >>> 0;
  const low = hostOffset === undefined ? 0 : hostOffset % WORD;
  view.setUint32(at, high);
  if (geometry.subclusters === 1) {
    view.setUint32(at + 4, low + (entry.zero === 0 ? 0 : ZERO_FLAG));
    return;
  }
  view.setUint32(at + 4, low);
  view.setUint32(at + 8, entry.zero >>> 0);
  view.setUint32(at + 12, entry.data >>> 0);
}

/** Compressed data at `hostOffset`, of `length` bytes. */
export function putCompressed(
  view: DataView,
  at: number,
  geometry: Geometry,
  { hostOffset, length }: { readonly hostOffset: number; readonly length: number },
): void {
  const offsetBitsInHigh = compressedOffsetBits(geometry) - 32;
  const last = Math.floor((hostOffset + length - 1) / SECTOR);
  const sectors = last - Math.floor(hostOffset / SECTOR);
  const high = COMPRESSED | (sectors << offsetBitsInHigh) | Math.floor(hostOffset / WORD);
  view.setUint32(at, high >>> 0);
  view.setUint32(at + 4, hostOffset % WORD);
  if (geometry.subclusters === 1) return;
  view.setUint32(at + 8, 0);
  view.setUint32(at + 12, 0);
}

/** The sector count takes the bits below COMPRESSED, one for each bit that a cluster has more than 256 bytes. */
export function compressedOffsetBits({ clusterBits }: Geometry): number {
  return 62 - (clusterBits - 8);
}
