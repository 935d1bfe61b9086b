// Free clusters of the file: found by their refcounts, and taken. The image's lock is held.

import { corruption } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import { checkOverlap } from './overlap.ts';
import {
  blockOffset,
  type ClusterRun,
  getRefcount,
  loadBlock,
  setRefcount,
} from './refcount-block.ts';
import { appendClusters, createBlock } from './refcount-growth.ts';

/** Refcounts beyond the end of the file are not looked at for longer than this many clusters. */
const BEYOND_FILE = 2 ** 16;

/** What clusters are taken for, where the reference says so of the first one, which never is free. */
export interface Purpose {
  readonly purpose?: 'L2 table' | 'compressed cluster';
}

/** Takes up to `wanted` free clusters in a row, at least `minimum`. Their refcounts become 1. */
export function allocateClusters(
  image: Qcow2Image,
  wanted: number,
  minimum = 1,
  options: Purpose = {},
): Promise<ClusterRun> {
  image.file.debugEvent('cluster_alloc');
  return takeClusters(image, wanted, minimum, options);
}

/** The same, for parts of clusters. */
export async function takeClusters(
  image: Qcow2Image,
  wanted: number,
  minimum = 1,
  { purpose }: Purpose = {},
): Promise<ClusterRun> {
  const { refcountsPerBlock, clusterSize } = image.geometry;
  // The first cluster of a block's area may hold the block itself.
  if (minimum >= refcountsPerBlock) return appendClusters(image, minimum);
  const limit =
    Math.ceil(image.file.node.length / clusterSize) + BEYOND_FILE + 2 * refcountsPerBlock;
  for (let from = image.freeIndex; ; ) {
    if (from > limit) {
      throw corruption(image, 'Refcounts of clusters beyond the end of the file');
    }
    const index = Math.floor(from / refcountsPerBlock);
    const place = blockOffset(image, from);
    if (place === 0) {
      await createBlock(image, index, from + wanted);
      continue;
    }
    const block = await loadBlock(image, place);
    const end = (index + 1) * refcountsPerBlock;
    const run = freeRun(image, block.view, { from, end, wanted, minimum });
    if (run === undefined) {
      from = end;
      if (minimum === 1) image.freeIndex = end;
      continue;
    }
    if (run.first === 0 && purpose !== undefined) {
      throw corruption(image, `Preventing invalid allocation of ${purpose} at offset 0`);
    }
    checkOverlap(image, run.first * clusterSize, run.count * clusterSize);
    image.file.debugEvent('refblock_alloc');
    const { refcountOrder } = image.geometry;
    for (let each = 0; each < run.count; each++) {
      setRefcount(block.view, (run.first + each) % refcountsPerBlock, refcountOrder, 1);
    }
    image.refcountCache.markDirty(block);
    if (minimum === 1) image.freeIndex = run.first + run.count;
    return run;
  }
}

function freeRun(
  image: Qcow2Image,
  view: DataView,
  search: { from: number; end: number; wanted: number; minimum: number },
): ClusterRun | undefined {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  const { unsettled } = image;
  const isFree = (cluster: number): boolean =>
    getRefcount(view, cluster % refcountsPerBlock, refcountOrder) === 0 &&
    (unsettled.size === 0 || !unsettled.has(cluster));
  for (let first = search.from; first + search.minimum <= search.end; first++) {
    if (!isFree(first)) continue;
    let count = 1;
    while (count < search.wanted && first + count < search.end && isFree(first + count)) count++;
    if (count >= search.minimum) return { first, count };
    first += count;
  }
  return undefined;
}
