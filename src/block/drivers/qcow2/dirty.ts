// The dirty bit: while it is set, refcounts on disk may be wrong. With lazy refcounts it is set before the first cluster is
// taken, and refcounts are written when it goes again: on closing. After a crash the image is repaired first (repair.ts).

import { writeFeatures, writeIncompatible } from './corruption.ts';
import { INCOMPAT_DIRTY } from './features.ts';
import type { Qcow2Image } from './image.ts';

export function isDirty(image: Qcow2Image): boolean {
  return (image.incompatible & INCOMPAT_DIRTY) !== 0n;
}

/** The lock is held. Where the bit cannot be written, refcounts go on being written in order. */
export async function markDirty(image: Qcow2Image): Promise<void> {
  if (isDirty(image)) return;
  image.incompatible |= INCOMPAT_DIRTY;
  try {
    await writeIncompatible(image);
  } catch (error) {
    image.incompatible &= ~INCOMPAT_DIRTY;
    image.log.debug(`The image could not be marked as dirty: ${String(error)}`);
  }
}

/** Writes refcounts, and that they are right. Nothing is under way; the lock is held. Throws IoError. */
export async function markClean(image: Qcow2Image): Promise<void> {
  if (!isDirty(image)) return;
  await image.refcountCache.flush();
  image.incompatible &= ~INCOMPAT_DIRTY;
  await writeFeatures(image);
}
