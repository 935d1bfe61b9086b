// Refcount blocks: numbers of 1 to 64 bits, and where the block is that has a cluster's.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { corruption, hex } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import { tableOffset } from './l1-l2.ts';
import type { CachedTable } from './table-cache.ts';

/** Clusters in a row, by index. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

/** The refcount at `index` of a block. */
export function getRefcount(view: DataView, index: number, order: number): number {
  switch (order) {
    case 3:
      return view.getUint8(index);
    case 4:
      return view.getUint16(index * 2);
    case 5:
      return view.getUint32(index * 4);
    case 6:
      return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
    default: {
      const bits = 1 << order;
      const perByte = 8 >> order;
      const shift = (index % perByte) * bits;
      return (view.getUint8(Math.floor(index / perByte)) >> shift) & ((1 << bits) - 1);
    }
  }
}

export function setRefcount(view: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 3:
      return view.setUint8(index, value);
    case 4:
      return view.setUint16(index * 2, value);
    case 5:
      return view.setUint32(index * 4, value);
    case 6:
      view.setUint32(index * 8, Math.floor(value / 2 ** 32));
      return view.setUint32(index * 8 + 4, value % 2 ** 32);
    default: {
      const bits = 1 << order;
      const perByte = 8 >> order;
      const shift = (index % perByte) * bits;
      const at = Math.floor(index / perByte);
      const others = view.getUint8(at) & ~(((1 << bits) - 1) << shift);
      return view.setUint8(at, others | (value << shift));
    }
  }
}

/** Where the block with a cluster's refcount is; 0 when there is none. Throws IoError. */
export function blockOffset(image: Qcow2Image, cluster: number): number {
  const { geometry, refcountTable, refcountTableEntries } = image;
  const index = Math.floor(cluster / geometry.refcountsPerBlock);
  if (index >= refcountTableEntries) return 0;
  const offset = tableOffset(refcountTable.view, index * 8);
  if (offset % geometry.clusterSize !== 0) {
    throw corruption(
      image,
      `Refblock offset ${hex(offset)} unaligned (reftable index: ${hex(index)})`,
    );
  }
  if (offset > Number.MAX_SAFE_INTEGER) throw new IoError(errno.EIO, { syscall: 'refcount' });
  return offset;
}

/** The block at `place`, from the cache or the file. */
export function loadBlock(image: Qcow2Image, place: number): MaybePromise<CachedTable> {
  image.file.debugEvent('refblock_load');
  return image.refcountCache.get(place);
}
