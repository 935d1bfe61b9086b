// A shorter disk gives back what it does not need: L2 tables, refcount blocks that count nothing, and the end of the file.

import { QmpError } from '../../../qapi/errors.ts';
import { corruption } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import { tableOffset } from './l1-l2.ts';
import { freeClusters, settle } from './refcount.ts';
import { blockOffset, getRefcount, loadBlock } from './refcount-block.ts';
import { saying } from './saying.ts';

/**
 * The L1 table keeps its length, but for `entries` entries it is empty. The lock is held. Refcounts that go down wait for a flush:
 * the L1 table is on disk before them.
 */
export async function shrinkL1(image: Qcow2Image, entries: number): Promise<void> {
  const { l1, l1Entries, l1Offset } = image;
  if (entries >= l1Entries) return;
  const { clusterSize } = image.geometry;
  const length = (l1Entries - entries) * 8;
  const at = entries * 8;
  image.file.debugEvent('l1_shrink_write_table');
  await image.file.writeZeroes(l1Offset + at, length);
  image.file.debugEvent('l1_shrink_free_l2_clusters');
  const tables: number[] = [];
  for (let index = l1Entries - 1; index >= entries; index--) {
    const offset = tableOffset(l1.view, index * 8);
    if (offset !== 0) tables.push(offset);
  }
  l1.bytes.fill(0, at, at + length);
  image.metadata = undefined;
  for (const offset of tables) {
    if (offset % clusterSize !== 0) throw corruption(image, 'L2 table offset unaligned');
    await freeClusters(image, { first: offset / clusterSize, count: 1 }, 'always');
  }
}

/** Drops refcount blocks that count nothing, or only themselves. The lock is held. */
export async function shrinkRefcounts(image: Qcow2Image): Promise<void> {
  const { refcountTable, refcountTableEntries, refcountCache } = image;
  const { clusterSize, refcountsPerBlock } = image.geometry;
  // What a block has counted must not be in use on disk without it.
  await settle(image);
  const unused: { index: number; cluster: number; countsItself: boolean }[] = [];
  for (let index = 0; index < refcountTableEntries; index++) {
    const offset = blockOffset(image, index * refcountsPerBlock);
    if (offset === 0) continue;
    const cluster = offset / clusterSize;
    const countsItself = Math.floor(cluster / refcountsPerBlock) === index;
    const block = await loadBlock(image, offset);
    const own = countsItself ? cluster % refcountsPerBlock : undefined;
    if (countsOnly(image, block.view, own)) unused.push({ index, cluster, countsItself });
  }
  if (unused.length === 0) return;
  const table = image.allocate(refcountTableEntries * 8);
  refcountTable.bytes.copy(table.bytes, 0, 0, refcountTableEntries * 8);
  for (const { index } of unused) table.bytes.fill(0, index * 8, index * 8 + 8);
  await image.file.write(image.refcountTableOffset, refcountTableEntries * 8, table, 0);
  // The file may end before the blocks next.
  await image.file.flush();
  image.refcountTable = table;
  image.metadata = undefined;
  for (const { cluster, countsItself } of unused) {
    refcountCache.forget(cluster * clusterSize, clusterSize);
    if (countsItself) image.freeIndex = Math.min(image.freeIndex, cluster);
    else await freeClusters(image, { first: cluster, count: 1 }, 'always');
  }
}

/**
 * Cuts the file behind the last cluster that is in use. The lock is held since shrinkRefcounts(), after which nothing on disk uses
 * what is cut off.
 */
export async function shrinkFile(image: Qcow2Image): Promise<void> {
  const { clusterSize } = image.geometry;
  const { length } = image.file.node;
  const last = await saying('Failed to find the last cluster', () => lastCluster(image));
  const needed = (last + 1) * clusterSize;
  if (needed >= length) return;
  try {
    await image.file.truncate(needed, { exact: false, prealloc: 'off', flags: 0 });
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    image.log.warn(`Failed to truncate the tail of the image: ${error.desc}`);
  }
}

/** The last cluster of the file that is in use. The lock is held. Throws IoError when there is none. */
export async function lastCluster(image: Qcow2Image): Promise<number> {
  const { clusterSize, refcountsPerBlock, refcountOrder } = image.geometry;
  let cluster = Math.ceil(image.file.node.length / clusterSize) - 1;
  while (cluster >= 0) {
    const first = cluster - (cluster % refcountsPerBlock);
    const place = blockOffset(image, cluster);
    if (place !== 0) {
      const { view } = await loadBlock(image, place);
      for (; cluster >= first; cluster--) {
        if (getRefcount(view, cluster - first, refcountOrder) > 0) return cluster;
      }
    }
    cluster = first - 1;
  }
  throw corruption(image, 'There are no references in the refcount table.');
}

/** True when no cluster but `own` is in use. */
function countsOnly(image: Qcow2Image, view: DataView, own: number | undefined): boolean {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  for (let index = 0; index < refcountsPerBlock; index++) {
    if (index !== own && getRefcount(view, index, refcountOrder) !== 0) return false;
  }
  return true;
}
