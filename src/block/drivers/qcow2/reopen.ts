// New options for an image that is open: caches of other sizes, and what becomes of its bitmaps when it stops or starts to be
// writable. Requests are held back meanwhile.

import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevOptions, BlockdevOptionsQcow2 } from '../../../qapi/generated/types.ts';
import type { ReopenStep } from '../../block-driver.ts';
import { filenameOf } from '../../filename.ts';
import { explained } from './bitmap-content.ts';
import { bitmapsToReadOnly, bitmapsToReadWrite } from './bitmaps.ts';
import { cacheSizes } from './cache-sizes.ts';
import { cleanEvery, makeCaches } from './caches.ts';
import { writeRest } from './close.ts';
import { isDirty, markClean } from './dirty.ts';
import { AUTOCLEAR_KNOWN, INCOMPAT_CORRUPT } from './features.ts';
import { writeAutoclear } from './header-update.ts';
import type { Qcow2Image } from './image.ts';
import { loadInactiveTables } from './inactive-tables.ts';
import { imageSettings } from './options.ts';
import { settle } from './refcount.ts';
import { repairImage } from './repair.ts';

/** Options that take effect, or may be left out, in a reopening. */
export const mutableOptions = [
  'cache-size',
  'l2-cache-size',
  'l2-cache-entry-size',
  'refcount-cache-size',
  'cache-clean-interval',
  'lazy-refcounts',
  'pass-discard-request',
  'pass-discard-snapshot',
  'pass-discard-other',
  'overlap-check',
  'overlap-check.template',
  'overlap-check.main-header',
  'overlap-check.active-l1',
  'overlap-check.active-l2',
  'overlap-check.refcount-table',
  'overlap-check.refcount-block',
  'overlap-check.snapshot-table',
  'overlap-check.inactive-l1',
  'overlap-check.inactive-l2',
  'overlap-check.bitmap-directory',
] as const;

/** Throws QmpError to refuse; everything is as before then. */
export async function reopenImage(
  image: Qcow2Image,
  options: BlockdevOptionsQcow2 & Pick<BlockdevOptions, 'read-only' | 'discard'>,
): Promise<ReopenStep> {
  if (image.unusable) throw new QmpError(strerror(errno.ENOMEDIUM));
  const { node } = image;
  const readOnly = options['read-only'] === true;
  const sizes = cacheSizes(options, image, image.geometry);
  const unmap = options.discard === undefined ? node.unmap : options.discard === 'unmap';
  const { version } = image.geometry;
  const settings = imageSettings(options, { version, compatible: image.compatible, unmap });
  await flushCaches(image);
  if (image.settings.lazyRefcounts && !settings.lazyRefcounts) {
    await explained(
      () => image.lock.run(() => markClean(image)),
      'Failed to disable lazy refcounts',
    );
  }
  if (node.readOnly && !readOnly) refuseCorrupt(image);
  // The bit of an image that is written to is our own.
  const wasLeftDirty = node.readOnly && !readOnly && isDirty(image);
  const caches = makeCaches(image, sizes, () => image);
  if (readOnly) await becomeReadOnly(image);
  return {
    commit() {
      Object.assign(image, caches, { settings, metadata: undefined });
      cleanEvery(image, sizes.cleanInterval);
    },
    async afterCommit() {
      await reloadInactiveTables(image);
      if (readOnly) return;
      if (wasLeftDirty) await repair(image);
      if (!image.unusable) await becomeWritable(image);
    },
    async abort() {
      if (readOnly && !node.readOnly) await becomeWritable(image);
    },
  };
}

async function flushCaches(image: Qcow2Image): Promise<void> {
  await image.lock.run(async () => {
    await explained(async () => {
      await settle(image);
      await image.l2Cache.flush();
    }, 'Failed to flush the L2 table cache');
    await explained(() => image.refcountCache.flush(), 'Failed to flush the refcount block cache');
  });
}

/** The reference would write to such an image, though it would not have opened it for that. */
function refuseCorrupt({ incompatible }: Qcow2Image): void {
  if ((incompatible & INCOMPAT_CORRUPT) !== 0n) {
    throw new QmpError('qcow2: Image is corrupt; cannot be opened read/write');
  }
}

/** It is too late to refuse: an image that cannot be repaired is not used any more, as nothing may be written to it. */
async function repair(image: Qcow2Image): Promise<void> {
  const { node, log } = image;
  try {
    await image.lock.run(() => repairImage(image));
  } catch (error) {
    image.unusable = true;
    log.error(`${node.nodeName}: Could not repair dirty image: ${messageOf(error)}`);
  }
}

/** All that is only in memory goes to the image. */
async function becomeReadOnly(image: Qcow2Image): Promise<void> {
  await bitmapsToReadOnly(image);
  try {
    await writeRest(image);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    const name = filenameOf(image.node);
    throw new QmpError(`failed while preparing to reopen image '${name}'`, { cause: error });
  }
}

/** It is too late to refuse: bitmaps that cannot follow stay as they are, and so nothing can be written. */
export async function becomeWritable(image: Qcow2Image): Promise<void> {
  const { node, log } = image;
  try {
    await bitmapsToReadWrite(image);
    const kept = image.autoclear & AUTOCLEAR_KNOWN;
    if (kept !== image.autoclear) await writeAutoclear(image, kept);
  } catch (error) {
    log.error(`${node.nodeName}: Failed to make dirty bitmaps writable: ${messageOf(error)}`);
  }
}

async function reloadInactiveTables(image: Qcow2Image): Promise<void> {
  try {
    await loadInactiveTables(image);
  } catch (error) {
    image.log.error(`${image.node.nodeName}: Snapshots cannot be guarded: ${messageOf(error)}`);
  }
}

function messageOf(error: unknown): string {
  if (error instanceof IoError) return error.reason;
  return error instanceof Error ? error.message : String(error);
}
