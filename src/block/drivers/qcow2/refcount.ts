// Refcounts: how many tables use a host cluster. Refcounts that go up are written before the L2 entries that need them, those
// that go down after the L2 entries that needed them: what is left after a crash are clusters that nobody uses. The image's
// lock is held.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { isDirty } from './dirty.ts';
import type { Qcow2Image } from './image.ts';
import type { FreeCause } from './options.ts';
import { metadataOf } from './overlap.ts';
import {
  blockOffset,
  type ClusterRun,
  getRefcount,
  loadBlock,
  setRefcount,
} from './refcount-block.ts';

/** Freed clusters that may not be used yet, bytes: more, and the L2 tables are written. */
const MOST_UNSETTLED = 16 * 1024 * 1024;

/**
 * Gives clusters up: their refcounts go down by one. What becomes free for some causes is discarded in the file, too, once
 * the L2 tables on disk no longer use it: compressed data full of zeroes could not be read any more.
 */
export async function freeClusters(
  image: Qcow2Image,
  { first, count }: ClusterRun,
  cause: FreeCause = 'never',
): Promise<void> {
  const { refcountsPerBlock, refcountOrder, clusterSize } = image.geometry;
  image.file.debugEvent('cluster_free');
  await image.refcountCache.dependOn(image.l2Cache);
  const end = first + count;
  for (let cluster = first; cluster < end; ) {
    const place = blockOffset(image, cluster);
    const blockEnd = Math.min(
      end,
      (Math.floor(cluster / refcountsPerBlock) + 1) * refcountsPerBlock,
    );
    if (place === 0) throw invalidRefcount(image, cluster);
    image.file.debugEvent('refblock_alloc');
    const block = await loadBlock(image, place);
    const freed: number[] = [];
    for (; cluster < blockEnd; cluster++) {
      const index = cluster % refcountsPerBlock;
      const count = getRefcount(block.view, index, refcountOrder);
      if (count === 0) throw invalidRefcount(image, cluster);
      setRefcount(block.view, index, refcountOrder, count - 1);
      if (count === 1) freed.push(cluster);
    }
    image.refcountCache.markDirty(block);
    for (const one of freed) {
      if (one === Math.floor(image.compressedEnd / clusterSize)) image.compressedEnd = 0;
      image.unsettled.set(one, image.settings.discards[cause]);
      image.l2Cache.forget(one * clusterSize, clusterSize);
    }
  }
  if (image.unsettled.size * clusterSize > MOST_UNSETTLED) await settle(image);
}

/**
 * Gives up a cluster that an image claims to be somebody's: one that is free already, or has metadata of something else in it,
 * stays as it is.
 */
export async function freeClaimed(
  image: Qcow2Image,
  cluster: number,
  cause: FreeCause,
): Promise<void> {
  const { refcountsPerBlock, refcountOrder, clusterSize } = image.geometry;
  const place = blockOffset(image, cluster);
  if (place === 0 || metadataOf(image).find(cluster * clusterSize, clusterSize) !== undefined)
    return;
  const block = await loadBlock(image, place);
  if (getRefcount(block.view, cluster % refcountsPerBlock, refcountOrder) === 0) return;
  await freeClusters(image, { first: cluster, count: 1 }, cause);
}

/** Writes both caches to the file, in order; what becomes durable with the next flush. Takes the lock. */
export function writeCaches(image: Qcow2Image): MaybePromise<void> {
  const { l2Cache, refcountCache, unsettled, lock, unusable } = image;
  if (
    unusable ||
    (!l2Cache.hasDirty && !refcountCache.hasDirty && unsettled.size === 0 && !lock.held)
  ) {
    return undefined;
  }
  return lock.run(async () => {
    await settle(image);
    await l2Cache.write();
    if (!isDirty(image)) await refcountCache.write();
  });
}

/** Writes the L2 tables, so that clusters that were freed may be discarded, and used again. The lock is held. */
export async function settle(image: Qcow2Image): Promise<void> {
  const { unsettled } = image;
  if (unsettled.size === 0) return;
  await image.l2Cache.flush();
  const discarded: number[] = [];
  for (const [cluster, discards] of unsettled) {
    if (discards) discarded.push(cluster);
    if (cluster < image.freeIndex) image.freeIndex = cluster;
  }
  await discardClusters(image, discarded);
  unsettled.clear();
}

/** Gives the space of clusters that nobody uses back to the file system, where it takes it. */
async function discardClusters(image: Qcow2Image, clusters: readonly number[]): Promise<void> {
  const { clusterSize } = image.geometry;
  for (const { first, count } of runsOf(clusters)) {
    try {
      await image.file.discard(first * clusterSize, count * clusterSize);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      image.log.debug(`Clusters could not be discarded: ${error.message}`);
    }
  }
}

/** Clusters that are in a row together. */
function runsOf(clusters: readonly number[]): ClusterRun[] {
  const runs: { first: number; count: number }[] = [];
  for (const cluster of clusters.toSorted((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === cluster) last.count++;
    else runs.push({ first: cluster, count: 1 });
  }
  return runs;
}

function invalidRefcount(image: Qcow2Image, cluster: number): IoError {
  image.log.error(`qcow2: cluster ${cluster} is given up more often than it is used`);
  return new IoError(errno.EINVAL, { syscall: 'refcount' });
}
