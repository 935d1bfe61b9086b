// From guest offsets to what lies there: runs of neighbouring clusters (or subclusters) of one kind. Without waiting where the
// L2 table is cached.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { corruption, hex } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import { decodeL2, type L2Entry, tableOffset } from './l1-l2.ts';
import type { CachedTable } from './table-cache.ts';

/** What a guest offset maps to. ..._AT: it has a place in the file, though it does not read from there. */
export const UNALLOCATED = 0;
export const UNALLOCATED_AT = 1;
export const ZERO = 2;
export const ZERO_AT = 3;
export const DATA = 4;
export const COMPRESSED = 5;
export type MappingKind = number;

export interface Mapping {
  kind: MappingKind;
  /** Bytes from the asked offset that have the kind, and lie in a row where they have a place. */
  length: number;
  /** Of the asked offset; of the compressed data. */
  hostOffset: number;
  compressedLength: number;
  /** The host clusters are this image's alone: they may be written. */
  copied: boolean;
}

export function emptyMapping(): Mapping {
  return { kind: UNALLOCATED, length: 0, hostOffset: 0, compressedLength: 0, copied: false };
}

/** Maps into `into`, at most `length` bytes and not beyond an L2 slice; false when the table is not cached. */
export function mapCached(
  image: Qcow2Image,
  offset: number,
  length: number,
  into: Mapping,
): boolean {
  const { geometry } = image;
  const place = sliceOffset(image, offset);
  if (place === 0) {
    into.kind = UNALLOCATED;
    into.copied = false;
    into.length = Math.min(length, geometry.l2Coverage - (offset % geometry.l2Coverage));
    return true;
  }
  const slice = image.l2Cache.peek(place);
  if (slice === undefined) return false;
  mapInSlice(image, slice, offset, length, into);
  return true;
}

/** As mapCached, but loads the table when it is not cached. */
export async function map(
  image: Qcow2Image,
  offset: number,
  length: number,
  into: Mapping,
): Promise<void> {
  if (mapCached(image, offset, length, into)) return;
  await image.lock.run(async () => {
    if (mapCached(image, offset, length, into)) return;
    const slice = await image.l2Cache.get(sliceOffset(image, offset));
    mapInSlice(image, slice, offset, length, into);
  });
}

/** Where the slice of the L2 table for a guest offset lies in the file; 0 when there is no table. Throws IoError. */
export function sliceOffset(image: Qcow2Image, offset: number): number {
  const { geometry, l1, l1Entries } = image;
  const l1Index = Math.floor(offset / geometry.l2Coverage);
  if (l1Index >= l1Entries) return 0;
  const table = tableOffset(l1.view, l1Index * 8);
  if (table === 0) return 0;
  if (table % geometry.clusterSize !== 0) {
    throw corruption(image, `L2 table offset ${hex(table)} unaligned (L1 index: ${hex(l1Index)})`);
  }
  checkPlace(table);
  const inTable = entryIndex(image, offset) * geometry.l2EntrySize;
  return table + inTable - (inTable % geometry.sliceSize);
}

/** The index of a guest offset's entry in its L2 table. */
export function entryIndex(image: Qcow2Image, offset: number): number {
  const { geometry } = image;
  return Math.floor((offset % geometry.l2Coverage) / geometry.clusterSize);
}

/** Where in its slice a guest offset's entry is, bytes. */
export function entryAt(image: Qcow2Image, offset: number): number {
  const { geometry } = image;
  return (entryIndex(image, offset) * geometry.l2EntrySize) % geometry.sliceSize;
}

/** The slice for a guest offset, whose L2 table must exist; the lock is held. */
export function loadSlice(image: Qcow2Image, offset: number): MaybePromise<CachedTable> {
  const place = sliceOffset(image, offset);
  if (place === 0) throw new Error('There is no L2 table');
  return image.l2Cache.get(place);
}

/** Decodes and checks the entry of a guest offset in its slice. Throws IoError when it makes no sense. */
export function readEntry(
  image: Qcow2Image,
  slice: CachedTable,
  offset: number,
  into: L2Entry,
): void {
  const { geometry } = image;
  decodeL2(slice.view, entryAt(image, offset), geometry, into);
  if (into.compressed) {
    if (geometry.hasDataFile) {
      throw corruption(
        image,
        `Compressed cluster entry found in image with external data file (${placeText(image, slice, offset)})`,
      );
    }
    return;
  }
  if (into.zero !== 0 && geometry.version < 3) {
    throw corruption(
      image,
      `Zero cluster entry found in pre-v3 image (${placeText(image, slice, offset)})`,
    );
  }
  if (!into.allocated) return;
  const { hostOffset } = into;
  if (hostOffset % geometry.clusterSize !== 0) {
    throw corruption(
      image,
      `Cluster allocation offset ${hex(hostOffset)} unaligned (${placeText(image, slice, offset)})`,
    );
  }
  if (geometry.hasDataFile && hostOffset !== offset - (offset % geometry.clusterSize)) {
    throw corruption(
      image,
      `External data file host cluster offset ${hex(hostOffset)} does not match guest cluster ` +
        `offset: ${hex(offset - (offset % geometry.clusterSize))}, L2 index: ${hex(entryIndex(image, offset))})`,
    );
  }
  checkPlace(hostOffset);
  if (geometry.subclusters > 1 && (into.zero & into.data) !== 0) {
    throw corruption(image, `Invalid cluster entry found  (${placeText(image, slice, offset)})`);
  }
}

/** The kind of one subcluster. */
export function kindOf(entry: L2Entry, subcluster: number): MappingKind {
  if (entry.compressed) return COMPRESSED;
  const bit = 1 << subcluster;
  if ((entry.zero & bit) !== 0) return entry.allocated ? ZERO_AT : ZERO;
  if ((entry.data & bit) !== 0) return DATA;
  return entry.allocated ? UNALLOCATED_AT : UNALLOCATED;
}

function mapInSlice(
  image: Qcow2Image,
  slice: CachedTable,
  offset: number,
  length: number,
  into: Mapping,
): void {
  const { geometry, scratch } = image;
  const { clusterSize, subclusterSize, subclusters } = geometry;
  readEntry(image, slice, offset, scratch);
  const inCluster = offset % clusterSize;
  const kind = kindOf(scratch, Math.floor(inCluster / subclusterSize));
  into.kind = kind;
  into.copied = scratch.copied;
  if (kind === COMPRESSED) {
    into.hostOffset = scratch.hostOffset;
    into.compressedLength = scratch.compressedLength;
    into.length = Math.min(length, clusterSize - inCluster);
    return;
  }
  const hasPlace = kind === DATA || kind === ZERO_AT || kind === UNALLOCATED_AT;
  const hostCluster = scratch.hostOffset;
  into.hostOffset = hasPlace ? hostCluster + inCluster : 0;
  const wanted = inCluster + length;
  let end = inCluster;
  end += subclusterSize - (end % subclusterSize);
  let entry = scratch;
  // Bytes from the start of the cluster to the end of the slice.
  const most = ((geometry.sliceSize - entryAt(image, offset)) / geometry.l2EntrySize) * clusterSize;
  while (end < wanted && end < most) {
    const inNext = end % clusterSize;
    if (inNext === 0) {
      entry = image.scratchNext;
      readEntry(image, slice, offset - inCluster + end, entry);
      if (hasPlace && !(entry.allocated && entry.hostOffset === hostCluster + end)) break;
      if (entry.copied !== into.copied) break;
    }
    const subcluster = subclusters === 1 ? 0 : inNext / subclusterSize;
    if (kindOf(entry, subcluster) !== kind) break;
    end += subclusterSize;
  }
  into.length = Math.min(end, wanted) - inCluster;
}

/** Throws for places that no file can have. */
function checkPlace(hostOffset: number): void {
  if (hostOffset > Number.MAX_SAFE_INTEGER) {
    throw new IoError(errno.EIO, { syscall: 'qcow2', offset: hostOffset });
  }
}

function placeText(image: Qcow2Image, slice: CachedTable, offset: number): string {
  const index = entryIndex(image, offset);
  const inTable = index * image.geometry.l2EntrySize;
  const table = slice.offset - (inTable - (inTable % image.geometry.sliceSize));
  return `L2 offset: ${hex(table)}, L2 index: ${hex(index)}`;
}
