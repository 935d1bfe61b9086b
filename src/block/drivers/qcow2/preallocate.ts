// Preallocation: every guest cluster of an area gets a place before anything is written to it. The lock is held, and nothing else
// uses the area.

import { QmpError } from '../../../qapi/errors.ts';
import type { PreallocMode } from '../../../qapi/generated/types.ts';
import { writableSlice } from './allocation.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { emptyEntry, putL2 } from './l1-l2.ts';
import { entryAt, loadSlice, readEntry } from './mapping.ts';
import { lengthenTable } from './refcount-growth.ts';
import { saying } from './saying.ts';
import { lastCluster } from './shrink.ts';

/**
 * Gives the clusters of a guest area host clusters, as far as they have none; what they read as is what the file has there
 * (clusters without subclusters), or what it was (subclusters stay unallocated). `falloc` and `full` reserve the storage first.
 * Throws QmpError.
 */
export async function preallocate(
  image: Qcow2Image,
  start: number,
  end: number,
  mode: PreallocMode,
): Promise<void> {
  const { hasDataFile, refcountsPerBlock } = image.geometry;
  const reserves = mode === 'falloc' || mode === 'full';
  let usedBefore = 0;
  if (!hasDataFile) {
    usedBefore = (await lastCluster(image)) + 1;
    const clusters = usedBefore + clustersFor(image, start, end, usedBefore);
    if (reserves) await reserve(image, clusters, mode);
    // Now, so that no old one leaves free clusters between the new ones.
    await saying('Failed to resize refcount structures', () =>
      lengthenTable(image, Math.ceil(clusters / refcountsPerBlock)),
    );
  }
  let hostEnd = 0;
  await saying('Allocating clusters failed', async () => {
    for (let guest = start; guest < end; ) {
      const run = await placeRun(image, { guest, end, usedBefore });
      guest += run.length;
      hostEnd = Math.max(hostEnd, run.hostEnd);
    }
  });
  // Reading a place must not lead beyond the end of the file.
  if (hostEnd <= image.dataFile.node.length) return;
  await image.dataFile.truncate(hostEnd, {
    exact: false,
    prealloc: reserves ? mode : 'off',
    flags: 0,
  });
}

/** Places for the clusters at `guest`, up to the end of their slice. Answers where what is in use of them ends. */
async function placeRun(
  image: Qcow2Image,
  { guest, end, usedBefore }: { guest: number; end: number; usedBefore: number },
): Promise<{ length: number; hostEnd: number }> {
  const { geometry } = image;
  const { clusterSize, sliceSize, l2EntrySize, hasDataFile } = geometry;
  const coverage = (sliceSize / l2EntrySize) * clusterSize;
  const sliceEnd = guest - (guest % coverage) + coverage;
  const first = guest - (guest % clusterSize);
  const slice = await writableSlice(image, guest);
  const entry = emptyEntry();
  readEntry(image, slice, guest, entry);
  if (entry.allocated || entry.compressed) {
    return { length: Math.min(end, first + clusterSize) - guest, hostEnd: 0 };
  }
  let count = 0;
  for (let at = first; at < Math.min(end, sliceEnd); at += clusterSize, count++) {
    readEntry(image, slice, at, entry);
    if (entry.allocated || entry.compressed) break;
  }
  let hostOffset = first;
  if (!hasDataFile) {
    const run = await allocateClusters(image, count);
    count = run.count;
    hostOffset = run.first * clusterSize;
    await clear(image, run.first, Math.min(usedBefore, run.first + count));
    await image.l2Cache.dependOn(image.refcountCache);
  }
  const table = await loadSlice(image, guest);
  for (let index = 0; index < count; index++) {
    readEntry(image, table, first + index * clusterSize, entry);
    putL2(table.view, entryAt(image, first + index * clusterSize), geometry, {
      hostOffset: hostOffset + index * clusterSize,
      data: geometry.subclusters === 1 ? 1 : 0,
      zero: geometry.subclusters === 1 ? 0 : entry.zero,
    });
  }
  image.l2Cache.markDirty(table);
  const last = Math.min(end, first + count * clusterSize);
  // Whole subclusters can be read.
  const within = Math.ceil((last - first) / geometry.subclusterSize) * geometry.subclusterSize;
  return { length: last - guest, hostEnd: hostOffset + within };
}

/** What was in the file when it was in use for something else must not be seen. */
async function clear(image: Qcow2Image, first: number, end: number): Promise<void> {
  const { clusterSize } = image.geometry;
  if (first < end) await image.file.writeZeroes(first * clusterSize, (end - first) * clusterSize);
}

/** How many clusters an area takes at most, its tables and refcount blocks included, when `used` are used already. */
function clustersFor(image: Qcow2Image, start: number, end: number, used: number): number {
  const { clusterSize, l2Entries, refcountsPerBlock } = image.geometry;
  const clusters = Math.ceil(end / clusterSize) - Math.floor(start / clusterSize);
  const tables = Math.ceil(clusters / l2Entries) + (start === 0 ? 0 : 1);
  let extra = 0;
  for (let last = -1; extra !== last; ) {
    last = extra;
    const blocks = Math.ceil((used + clusters + tables + extra) / refcountsPerBlock);
    const tableClusters = Math.ceil((blocks * 8 * 1.5) / clusterSize);
    extra = blocks - Math.ceil(used / refcountsPerBlock);
    if (blocks > image.refcountTableEntries) extra += tableClusters;
  }
  return clusters + tables + extra;
}

/** Makes the file that many clusters long, with storage. */
async function reserve(image: Qcow2Image, clusters: number, mode: PreallocMode): Promise<void> {
  const length = clusters * image.geometry.clusterSize;
  try {
    await image.file.truncate(length, { exact: false, prealloc: mode, flags: 0 });
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(`Failed to resize underlying file: ${error.desc}`, { cause: error });
  }
}
