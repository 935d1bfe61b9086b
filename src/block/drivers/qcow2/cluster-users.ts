// How many tables use a cluster, counted in the refcounts that are in memory, whatever is on disk: for changes that write all of
// them beside those in use. The image's lock is held.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import type { Qcow2Image } from './image.ts';
import {
  blockOffset,
  type ClusterRun,
  getRefcount,
  loadBlock,
  setRefcount,
} from './refcount-block.ts';

/** Clusters have a user more, or less. Throws IoError where one has none, or more than can be counted. */
export async function adjustUsers(
  image: Qcow2Image,
  { first, count }: ClusterRun,
  addend: 1 | -1,
): Promise<void> {
  const { refcountsPerBlock, refcountOrder, refcountBits } = image.geometry;
  const most = 2 ** refcountBits - 1;
  const end = first + count;
  for (let cluster = first; cluster < end; ) {
    const place = blockOffset(image, cluster);
    if (place === 0) throw miscounted(image, cluster);
    const block = await loadBlock(image, place);
    const blockEnd = (Math.floor(cluster / refcountsPerBlock) + 1) * refcountsPerBlock;
    for (; cluster < Math.min(end, blockEnd); cluster++) {
      const at = cluster % refcountsPerBlock;
      const users = getRefcount(block.view, at, refcountOrder);
      if (users === 0) throw miscounted(image, cluster);
      if (users + addend > most) throw new IoError(errno.EINVAL, { syscall: 'refcount' });
      setRefcount(block.view, at, refcountOrder, users + addend);
    }
    image.refcountCache.markDirty(block);
  }
}

/** How many users a cluster has. */
export function usersOf(image: Qcow2Image, cluster: number): MaybePromise<number> {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  const place = blockOffset(image, cluster);
  if (place === 0) return 0;
  const at = cluster % refcountsPerBlock;
  const block = loadBlock(image, place);
  return block instanceof Promise
    ? block.then(({ view }) => getRefcount(view, at, refcountOrder))
    : getRefcount(block.view, at, refcountOrder);
}

/** The error of a request that found a cluster in use that has no users. */
export function miscounted(image: Qcow2Image, cluster: number): IoError {
  image.log.error(`qcow2: cluster ${cluster} is used, but is not counted so`);
  return new IoError(errno.EINVAL, { syscall: 'refcount' });
}
