// Host clusters for guest clusters that have none of their own: taken before the data are written, and put into the L2 table
// when they are. In between the guest clusters are under way: other writes to them wait.

import { checkUsable, corruption } from './corruption.ts';
import { isDirty, markDirty } from './dirty.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import {
  ALL_SUBCLUSTERS,
  emptyEntry,
  isCopied,
  type L2Entry,
  putL2,
  putTableOffset,
  tableOffset,
} from './l1-l2.ts';
import { entryAt, loadSlice, readEntry } from './mapping.ts';
import type { FreeCause } from './options.ts';
import { metadataOf } from './overlap.ts';
import { freeClusters } from './refcount.ts';
import type { CachedTable } from './table-cache.ts';

/** Guest clusters that are being written to a new place, or whose entries change once the data are there. */
export interface Allocation {
  /** Guest offsets, whole clusters. */
  readonly start: number;
  readonly end: number;
  /** Where `start` will lie. */
  readonly hostOffset: number;
  /** The clusters were taken for this; otherwise they were the guest clusters' own before. */
  readonly isNew: boolean;
  /** Guest offsets between which data are there when it is done: whole subclusters. */
  readonly dataStart: number;
  readonly dataEnd: number;
  /** Guest offsets between which the place must be written: what is not new there is copied. */
  readonly copyStart: number;
  readonly copyEnd: number;
  /** The place reads as zeroes: the file ends before it. */
  readonly isFresh: boolean;
  /** Resolves when it is over, whatever came of it. */
  readonly done: Promise<void>;
  readonly finish: () => void;
}

/** The first allocation under way that touches an area of guest offsets. */
export function allocationIn(
  image: Qcow2Image,
  start: number,
  end: number,
): Allocation | undefined {
  let first: Allocation | undefined;
  for (const each of image.allocations) {
    if (each.start >= end || start >= each.end) continue;
    if (first === undefined || each.start < first.start) first = each;
  }
  return first;
}

/** Notes that clusters are under way; the lock is held. */
export function beginAllocation(
  image: Qcow2Image,
  area: Omit<Allocation, 'done' | 'finish'>,
): Allocation {
  let finish = (): void => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const allocation = { ...area, done, finish };
  image.allocations.push(allocation);
  return allocation;
}

export function endAllocation(image: Qcow2Image, allocation: Allocation): void {
  image.allocations.splice(image.allocations.indexOf(allocation), 1);
  allocation.finish();
}

/** Puts the clusters into the L2 table, their data being written, and gives up those that they replace. */
export async function link(image: Qcow2Image, allocation: Allocation): Promise<void> {
  await image.lock.run(async () => {
    checkUsable(image);
    const { geometry } = image;
    const { clusterSize } = geometry;
    if (image.settings.lazyRefcounts) await markDirty(image);
    if (allocation.isNew && !geometry.hasDataFile && !isDirty(image))
      await image.l2Cache.dependOn(image.refcountCache);
    // All of it lies in one slice.
    const slice = await loadSlice(image, allocation.start);
    const replaced: L2Entry[] = [];
    for (let guest = allocation.start; guest < allocation.end; guest += clusterSize) {
      const old = emptyEntry();
      readEntry(image, slice, guest, old);
      const written = subclustersBetween(image, guest, allocation);
      putL2(slice.view, entryAt(image, guest), geometry, {
        hostOffset: allocation.hostOffset + guest - allocation.start,
        data: old.data | written,
        zero: old.zero & ~written,
      });
      const moved = allocation.isNew && (old.compressed || old.allocated);
      if (moved && !geometry.hasDataFile) replaced.push(old);
    }
    image.l2Cache.markDirty(slice);
    for (const old of replaced) await freeEntry(image, old);
  });
}

/** Gives back the clusters of an allocation that failed. */
export async function undo(image: Qcow2Image, allocation: Allocation): Promise<void> {
  const { clusterSize, hasDataFile } = image.geometry;
  if (!allocation.isNew || hasDataFile || image.unusable) return;
  const first = allocation.hostOffset / clusterSize;
  const count = (allocation.end - allocation.start) / clusterSize;
  await image.lock.run(() => freeClusters(image, { first, count }));
}

/** Gives up the host clusters that an entry used. */
export async function freeEntry(
  image: Qcow2Image,
  entry: L2Entry,
  cause: FreeCause = 'never',
): Promise<void> {
  const { clusterSize } = image.geometry;
  if (entry.compressed) {
    const first = Math.floor(entry.hostOffset / clusterSize);
    const last = Math.floor((entry.hostOffset + entry.compressedLength - 1) / clusterSize);
    await freeClusters(image, { first, count: last - first + 1 }, cause);
  } else if (entry.allocated) {
    await freeClusters(image, { first: entry.hostOffset / clusterSize, count: 1 }, cause);
  }
}

/** The slice for a guest offset, in an L2 table that is this image's alone: it may be changed. The lock is held. */
export async function writableSlice(image: Qcow2Image, offset: number): Promise<CachedTable> {
  const { geometry, l1 } = image;
  const index = Math.floor(offset / geometry.l2Coverage);
  if (!isCopied(l1.view, index * 8)) await newL2Table(image, index);
  return loadSlice(image, offset);
}

/** Makes an L2 table, empty or as the shared one that it replaces. */
async function newL2Table(image: Qcow2Image, index: number): Promise<void> {
  const { geometry, l1, l2Cache } = image;
  const { clusterSize, sliceSize } = geometry;
  const at = index * 8;
  // Checks that it is where a table can be.
  const old = tableOffset(l1.view, at);
  if (old % clusterSize !== 0) throw corruption(image, 'L2 table offset unaligned');
  const { first } = await allocateClusters(image, 1, 1, { purpose: 'L2 table' });
  const offset = first * clusterSize;
  try {
    await image.refcountCache.flush();
    const copy = image.node.pool.take(sliceSize);
    for (let slice = 0; slice < clusterSize; slice += sliceSize) {
      if (old !== 0) image.file.debugEvent('l2_alloc_cow_read');
      if (old !== 0) (await l2Cache.get(old + slice)).buffer.bytes.copy(copy.bytes);
      const table = await l2Cache.create(offset + slice);
      if (old !== 0) copy.bytes.copy(table.buffer.bytes, 0, 0, sliceSize);
    }
    image.node.pool.give(copy);
    metadataOf(image).add(offset, 'active L2 table');
    image.file.debugEvent('l2_alloc_write');
    await l2Cache.flush();
    const entry = image.allocate(8);
    putTableOffset(entry.view, 0, offset);
    image.file.debugEvent('l1_update');
    await image.file.write(image.l1Offset + at, 8, entry, 0);
    entry.bytes.copy(l1.bytes, at, 0, 8);
  } catch (error) {
    l2Cache.forget(offset, clusterSize);
    throw error;
  }
  if (old !== 0) await freeClusters(image, { first: old / clusterSize, count: 1 }, 'other');
}

/** The bits of a guest cluster's subclusters that have data when the allocation is done. */
function subclustersBetween(image: Qcow2Image, guest: number, allocation: Allocation): number {
  const { clusterSize, subclusterSize, subclusters } = image.geometry;
  const from = Math.max(0, allocation.dataStart - guest) / subclusterSize;
  const to = Math.min(clusterSize, allocation.dataEnd - guest) / subclusterSize;
  return bits(from, to) & (subclusters === 1 ? 1 : ALL_SUBCLUSTERS);
}

/** Bits from `from` to before `to`. */
function bits(from: number, to: number): number {
  const below = (bit: number): number => (bit >= 32 ? ALL_SUBCLUSTERS : 2 ** bit - 1);
  return below(to) & ~below(from);
}
