// Changing the length of the disk.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { TruncateOptions } from '../../block-driver.ts';
import { ZERO_WRITE } from '../../block-driver.ts';
import { SECTOR } from '../../block-node.ts';
import { LARGEST_BOUNCE } from '../../bounce-pool.ts';
import { resizeError } from '../../resize-error.ts';
import { checkResizable } from './bitmaps.ts';
import { fitCaches } from './caches.ts';
import { checkUsable } from './corruption.ts';
import { AUTOCLEAR_DATA_FILE_RAW } from './features.ts';
import { MAX_L1 } from './header.ts';
import { writeL1Place, writeSize } from './header-update.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { metadataOf } from './overlap.ts';
import { preallocate } from './preallocate.ts';
import { freeClusters } from './refcount.ts';
import { saying } from './saying.ts';
import { shrinkFile, shrinkL1, shrinkRefcounts } from './shrink.ts';
import { write } from './write.ts';
import { drop, writeZeroes } from './zero.ts';

/** Throws QmpError or IoError. */
export async function truncate(
  image: Qcow2Image,
  length: number,
  options: TruncateOptions,
): Promise<void> {
  checkUsable(image);
  const { version } = image.geometry;
  if (length % SECTOR !== 0) {
    throw resizeError(`The new size must be a multiple of ${SECTOR}`, errno.EINVAL);
  }
  if (version < 3 && image.snapshots.length > 0) {
    throw resizeError("Can't resize a v2 image which has snapshots", errno.ENOTSUP);
  }
  checkResizable(image);
  if (length < image.size) await shrink(image, length, options);
  else await grow(image, length, options);
}

async function shrink(image: Qcow2Image, length: number, options: TruncateOptions): Promise<void> {
  const { clusterSize, l2Coverage } = image.geometry;
  if (options.prealloc !== 'off') {
    throw resizeError("Preallocation can't be used for shrinking an image", errno.EINVAL);
  }
  await saying('Failed to discard cropped clusters', () =>
    drop(image, Math.ceil(length / clusterSize) * clusterSize, image.size),
  );
  await image.lock.run(async () => {
    await saying('Failed to reduce the number of L2 tables', () =>
      shrinkL1(image, Math.ceil(length / l2Coverage)),
    );
    await saying('Failed to discard unused refblocks', () => shrinkRefcounts(image));
    await shrinkFile(image);
    await resizeDataFile(image, length, options);
    await saying('Failed to update the image size', async () => {
      // Entries that stay behind the end would come to light in a longer disk.
      await image.l2Cache.flush();
      await writeSize(image, length);
      fitCaches(image);
    });
  });
}

async function grow(image: Qcow2Image, length: number, options: TruncateOptions): Promise<void> {
  const { l2Coverage, hasDataFile } = image.geometry;
  const before = image.size;
  // The tables of an image with a raw data file show all of it.
  const isRaw = hasDataFile && (image.autoclear & AUTOCLEAR_DATA_FILE_RAW) !== 0n;
  const prealloc = isRaw && options.prealloc === 'off' ? 'metadata' : options.prealloc;
  await image.lock.run(async () => {
    const entries = Math.ceil(length / l2Coverage);
    if (entries > image.l1Entries) await growL1(image, entries);
    if (prealloc === 'off') await resizeDataFile(image, length, options);
    else await preallocate(image, before, length, prealloc);
  });
  if ((options.flags & ZERO_WRITE) !== 0) {
    await saying('Failed to zero out new clusters', () => zero(image, before, length));
  }
  await image.lock.run(() =>
    saying('Failed to update the image size', async () => {
      await image.l2Cache.flush();
      await writeSize(image, length);
      fitCaches(image);
    }),
  );
}

/** An external data file is as long as the disk. */
async function resizeDataFile(
  image: Qcow2Image,
  length: number,
  { exact }: TruncateOptions,
): Promise<void> {
  if (!image.geometry.hasDataFile) return;
  await image.dataFile.truncate(length, { exact, prealloc: 'off', flags: 0 });
}

/** Makes a larger L1 table somewhere else. The lock is held. */
async function growL1(image: Qcow2Image, entries: number): Promise<void> {
  const { clusterSize } = image.geometry;
  const bytes = entries * 8;
  if (bytes > MAX_L1) throw resizeError('Failed to grow the L1 table: File too large', errno.EFBIG);
  try {
    const count = Math.ceil(bytes / clusterSize);
    image.file.debugEvent('l1_grow_alloc_table');
    const { first } = await allocateClusters(image, count, count);
    await image.refcountCache.flush();
    const table = image.allocate(count * clusterSize);
    image.l1.bytes.copy(table.bytes, 0, 0, image.l1Entries * 8);
    const offset = first * clusterSize;
    image.file.debugEvent('l1_grow_write_table');
    await image.file.write(offset, bytes, table, 0);
    await image.file.flush();
    image.file.debugEvent('l1_grow_activate_table');
    await writeL1Place(image, { offset, entries });
    const old = {
      first: image.l1Offset / clusterSize,
      count: Math.ceil((image.l1Entries * 8) / clusterSize),
    };
    image.l1 = table;
    image.l1Entries = entries;
    image.l1Offset = offset;
    metadataOf(image).tablesMoved(image);
    if (old.count > 0) await freeClusters(image, old, 'other');
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to grow the L1 table: ${error.reason}`, { cause: error });
  }
}

/** Hides what a longer backing file has there; version 2 cannot say that there are zeroes. */
async function zero(image: Qcow2Image, start: number, end: number): Promise<void> {
  const { clusterSize, subclusterSize, version } = image.geometry;
  const whole = Math.min(end, roundUp(start, subclusterSize));
  // The disk is not that long yet, so its end is no excuse for a subcluster that is cut.
  const last = roundUp(end, subclusterSize);
  if (version < 3 && whole < end) {
    await writeZeroes(image, whole, last - whole, 0);
    return writeZeroData(image, start, whole);
  }
  await writeZeroData(image, start, whole);
  const cluster = Math.min(last, roundUp(whole, clusterSize));
  if (whole < cluster) {
    try {
      await writeZeroes(image, whole, cluster - whole, 0);
    } catch (error) {
      // Subclusters of a compressed cluster cannot be zeroes.
      if (!(error instanceof IoError) || error.errno !== errno.ENOTSUP) throw error;
      await writeZeroData(image, whole, Math.min(end, cluster));
    }
  }
  if (cluster < last) await writeZeroes(image, cluster, last - cluster, 0);
}

async function writeZeroData(image: Qcow2Image, start: number, end: number): Promise<void> {
  const { zeroes } = image.node.pool;
  for (let from = start; from < end; from += LARGEST_BOUNCE) {
    await write(image, from, Math.min(LARGEST_BOUNCE, end - from), zeroes, 0);
  }
}

function roundUp(offset: number, unit: number): number {
  return Math.ceil(offset / unit) * unit;
}
