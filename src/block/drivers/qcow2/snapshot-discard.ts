// Clusters that nobody uses any more once a snapshot is deleted go back to the file system, where it takes them. Advice only.

import type { Qcow2Image } from './image.ts';
import { getRefcount } from './refcount-block.ts';

/** So many blocks, and others have their turn. */
const BLOCKS_AT_ONCE = 16;

/** A refcount block, and what replaces it; offsets in bytes. */
export interface ReplacedBlock {
  /** In the refcount table. */
  readonly index: number;
  readonly old: number;
  readonly next: number;
}

/** Discards what the old blocks counted and the new ones do not. The image's lock is held. */
export async function discardFreed(
  image: Qcow2Image,
  blocks: readonly ReplacedBlock[],
): Promise<void> {
  const { file, refcountCache } = image;
  const { clusterSize, refcountsPerBlock, refcountOrder } = image.geometry;
  if (!file.node.unmap || !image.settings.discards.snapshot) return;
  const before = image.allocate(clusterSize);
  const after = image.allocate(clusterSize);
  try {
    for (const [count, { index, old, next }] of blocks.entries()) {
      await file.read(old, clusterSize, before, 0);
      (await refcountCache.get(next)).buffer.bytes.copy(after.bytes);
      const isFreed = (at: number): boolean =>
        getRefcount(after.view, at, refcountOrder) === 0 &&
        getRefcount(before.view, at, refcountOrder) !== 0;
      for (let at = 0; at < refcountsPerBlock; at++) {
        const first = at;
        while (at < refcountsPerBlock && isFreed(at)) at++;
        if (at === first) continue;
        const offset = (index * refcountsPerBlock + first) * clusterSize;
        await file.discard(offset, (at - first) * clusterSize);
      }
      if ((count + 1) % BLOCKS_AT_ONCE === 0) await new Promise(setImmediate);
    }
  } catch (error) {
    image.log.debug(`Freed clusters are not discarded: ${String(error)}`);
  }
}
