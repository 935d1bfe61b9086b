// Writing compressed clusters: as many as fit share a host cluster. As with any other write, the data are there before the L2
// table shows them.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import {
  type Allocation,
  allocationIn,
  beginAllocation,
  endAllocation,
  writableSlice,
} from './allocation.ts';
import { checkUsable } from './corruption.ts';
import { isDirty, markDirty } from './dirty.ts';
import { takeClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { compressedOffsetBits, emptyEntry, putCompressed } from './l1-l2.ts';
import { entryAt, loadSlice, readEntry } from './mapping.ts';
import { freeClusters } from './refcount.ts';
import { blockOffset, getRefcount, loadBlock, setRefcount } from './refcount-block.ts';
import { write } from './write.ts';

/** Clusters compressed at the same time. */
const PARALLEL = 8;

interface Place {
  readonly hostOffset: number;
  readonly length: number;
}

/** Writes whole clusters that have no data yet. Throws IoError: EIO where there are data, ENOTSUP, EINVAL. */
export async function writeCompressed(
  image: Qcow2Image,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<void> {
  checkUsable(image);
  const { clusterSize, hasDataFile } = image.geometry;
  if (hasDataFile) throw new IoError(errno.ENOTSUP, { syscall: 'write', offset });
  const end = offset + length;
  if (offset % clusterSize !== 0 || (end % clusterSize !== 0 && end !== image.size)) {
    throw new IoError(errno.EINVAL, { syscall: 'write', offset });
  }
  let next = offset;
  let failed = false;
  const work = async (): Promise<void> => {
    while (next < end && !failed) {
      const guest = next;
      next += clusterSize;
      try {
        await writeCluster(
          image,
          guest,
          Math.min(clusterSize, end - guest),
          from,
          at + guest - offset,
        );
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Math.min(PARALLEL, Math.ceil(length / clusterSize));
  const results = await Promise.allSettled(Array.from({ length: workers }, work));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function writeCluster(
  image: Qcow2Image,
  guest: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<void> {
  const { clusterSize } = image.geometry;
  let cluster: Uint8Array = from.bytes.subarray(at, at + length);
  if (length < clusterSize) {
    // The disk ends here.
    const padded = Buffer.alloc(clusterSize);
    padded.set(cluster);
    cluster = padded;
  }
  const compressed = await image.compress(cluster);
  if (compressed === undefined) return write(image, guest, length, from, at);
  const begun = await begin(image, guest, compressed.length);
  if (begun === undefined) return write(image, guest, length, from, at);
  const { place, allocation } = begun;
  try {
    const bounce = image.node.pool.take(place.length);
    bounce.bytes.set(compressed);
    image.file.debugEvent('write_compressed');
    await image.file.write(place.hostOffset, place.length, bounce, 0);
    image.node.pool.give(bounce);
    await image.lock.run(() => link(image, guest, place));
  } catch (error) {
    await image.lock
      .run(() => giveUp(image, place))
      .catch((later: unknown) => {
        image.log.debug(`Clusters are lost: ${String(later)}`);
      });
    throw error;
  } finally {
    endAllocation(image, allocation);
  }
}

interface Begun {
  readonly place: Place;
  readonly allocation: Allocation;
}

/** Takes a place for a guest cluster that has none. Undefined: an L2 entry cannot say where it would be. */
async function begin(image: Qcow2Image, guest: number, length: number): Promise<Begun | undefined> {
  const end = guest + image.geometry.clusterSize;
  for (;;) {
    const busy = allocationIn(image, guest, end);
    if (busy !== undefined) await busy.done;
    const begun = await image.lock.run(async () => {
      checkUsable(image);
      if (allocationIn(image, guest, end) !== undefined) return 'busy';
      const slice = await writableSlice(image, guest);
      const entry = emptyEntry();
      readEntry(image, slice, guest, entry);
      if (entry.allocated || entry.compressed) {
        throw new IoError(errno.EIO, { syscall: 'write', offset: guest });
      }
      const place = await takeBytes(image, length);
      if (place === undefined) return undefined;
      // What the entry will be is settled; it changes when the data are there.
      image.file.debugEvent('l2_update_compressed');
      const allocation = beginAllocation(image, {
        start: guest,
        end,
        hostOffset: place.hostOffset,
        isNew: true,
        dataStart: guest,
        dataEnd: end,
        copyStart: guest,
        copyEnd: end,
        isFresh: false,
      });
      return { place, allocation };
    });
    if (begun !== 'busy') return begun;
  }
}

/** Takes bytes behind the last compressed cluster, or in a new cluster where they do not fit. The lock is held. */
async function takeBytes(image: Qcow2Image, length: number): Promise<Place | undefined> {
  const { geometry } = image;
  const { clusterSize } = geometry;
  image.file.debugEvent('cluster_alloc_bytes');
  let hostOffset = image.compressedEnd;
  if (hostOffset !== 0 && !(await mayBeShared(image, Math.floor(hostOffset / clusterSize)))) {
    hostOffset = 0;
  }
  const left = (clusterSize - (hostOffset % clusterSize)) % clusterSize;
  if (left < length) {
    const { first } = await takeClusters(image, 1, 1, { purpose: 'compressed cluster' });
    // What is left counts only if the new cluster is the next one.
    if (first * clusterSize !== hostOffset + left || hostOffset === 0) {
      hostOffset = first * clusterSize;
    }
  }
  if (hostOffset % clusterSize !== 0) await share(image, Math.floor(hostOffset / clusterSize));
  const place = { hostOffset, length };
  const end = hostOffset + length;
  if (end > 2 ** compressedOffsetBits(geometry)) {
    await giveUp(image, place);
    return undefined;
  }
  image.compressedEnd = end % clusterSize === 0 ? 0 : end;
  return place;
}

/** One more compressed cluster may lie in that cluster. */
async function mayBeShared(image: Qcow2Image, cluster: number): Promise<boolean> {
  const { refcountsPerBlock, refcountOrder, refcountBits } = image.geometry;
  const place = blockOffset(image, cluster);
  if (place === 0) return false;
  const { view } = await loadBlock(image, place);
  const refcount = getRefcount(view, cluster % refcountsPerBlock, refcountOrder);
  return refcount > 0 && refcount < 2 ** refcountBits - 1;
}

async function share(image: Qcow2Image, cluster: number): Promise<void> {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  image.file.debugEvent('refblock_alloc');
  const block = await loadBlock(image, blockOffset(image, cluster));
  const index = cluster % refcountsPerBlock;
  const refcount = getRefcount(block.view, index, refcountOrder);
  setRefcount(block.view, index, refcountOrder, refcount + 1);
  image.refcountCache.markDirty(block);
}

/** Shows the data, which are written. The lock is held. */
async function link(image: Qcow2Image, guest: number, place: Place): Promise<void> {
  checkUsable(image);
  if (image.settings.lazyRefcounts) await markDirty(image);
  if (!isDirty(image)) await image.l2Cache.dependOn(image.refcountCache);
  // Half of the data would be worse than what was there before.
  image.l2Cache.dependOnFlush();
  const slice = await loadSlice(image, guest);
  putCompressed(slice.view, entryAt(image, guest), image.geometry, place);
  image.l2Cache.markDirty(slice);
}

/** The lock is held. */
async function giveUp(image: Qcow2Image, { hostOffset, length }: Place): Promise<void> {
  const { clusterSize } = image.geometry;
  const first = Math.floor(hostOffset / clusterSize);
  const last = Math.floor((hostOffset + length - 1) / clusterSize);
  await freeClusters(image, { first, count: last - first + 1 });
}
