// The caches of an image's tables, made to size: when it is opened, and again when its options change.

import type { BlockdevOptionsQcow2 } from '../../../qapi/generated/types.ts';
import { type CacheSizes, cacheSizes } from './cache-sizes.ts';
import type { Geometry, Qcow2Image } from './image.ts';
import { checkOverlap } from './overlap.ts';
import { TableCache } from './table-cache.ts';

/** What of an image depends on how large its caches are. */
export type Caches = Pick<Qcow2Image, 'l2Cache' | 'refcountCache'> & {
  readonly geometry: Geometry;
};

/** Empty caches for the image that `image` answers once it is there. */
export function makeCaches(
  parts: Pick<Qcow2Image, 'file' | 'dataFile' | 'allocate'> & {
    readonly geometry: Omit<Geometry, 'sliceSize'>;
  },
  sizes: CacheSizes,
  image: () => Qcow2Image,
): Caches {
  const { file, dataFile, allocate } = parts;
  const geometry = { ...parts.geometry, sliceSize: sizes.l2EntrySize };
  const flushFiles = async (): Promise<void> => {
    if (dataFile !== file) await dataFile.flush();
    await file.flush();
  };
  const events = {
    'active L2 table': { load: 'l2_load', update: 'l2_update' },
    'refcount block': { update: 'refblock_update_part' },
  } as const;
  const cache = (tableSize: number, capacity: number, kind: 'active L2 table' | 'refcount block') =>
    new TableCache({
      file,
      flushFiles,
      tableSize,
      capacity,
      allocate,
      events: events[kind],
      checkPlace: (offset, length) => checkOverlap(image(), offset, length, kind),
    });
  return {
    geometry,
    l2Cache: cache(geometry.sliceSize, sizes.l2Capacity, 'active L2 table'),
    refcountCache: cache(geometry.clusterSize, sizes.refcountCapacity, 'refcount block'),
  };
}

/** Has the caches hold as much as they would if the image were opened now that its disk has another length. */
export function fitCaches(image: Qcow2Image): void {
  const { node, geometry, l2Cache, refcountCache } = image;
  const options = node.options as unknown as BlockdevOptionsQcow2;
  // What is cached stays in pieces of the size that they have.
  const asNow = { ...options, 'l2-cache-entry-size': geometry.sliceSize };
  const { l2Capacity, refcountCapacity } = cacheSizes(asNow, image, geometry);
  l2Cache.capacity = l2Capacity;
  refcountCache.capacity = refcountCapacity;
}

/** Gives back memory of tables that are not used, every so many seconds; 0 for never. */
export function cleanEvery(image: Qcow2Image, seconds: number): void {
  clearInterval(image.cleanTimer);
  image.cleanTimer = undefined;
  if (seconds === 0) return;
  const clean = (): void => {
    // Who holds the lock may be about to use a table.
    if (image.lock.held) return;
    image.l2Cache.clean();
    image.refcountCache.clean();
  };
  // Longer than a timer can wait is as good as never.
  image.cleanTimer = setInterval(clean, Math.min(seconds * 1000, 2 ** 31 - 1)).unref();
}
