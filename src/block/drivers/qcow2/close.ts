// Closing an image: what is only in memory is written.

import { QmpError } from '../../../qapi/errors.ts';
import { storeBitmaps } from './bitmaps.ts';
import { markClean } from './dirty.ts';
import type { Qcow2Image } from './image.ts';
import { writeCaches } from './refcount.ts';

/** Stores the bitmaps and lets go of the image. What fails is said. */
export async function closeImage(image: Qcow2Image): Promise<void> {
  clearInterval(image.cleanTimer);
  // What is inactive has been written, and may be somebody else's by now.
  if (image.unusable || !image.node.active) return;
  await storeAll(image);
  await writeRest(image);
}

/** Writes what is only in memory, but for bitmaps, and that the image is complete. Throws IoError. */
export async function writeRest(image: Qcow2Image): Promise<void> {
  if (image.node.readOnly) return;
  await writeCaches(image);
  await image.lock.run(() => markClean(image));
  await image.file.flush();
}

async function storeAll(image: Qcow2Image): Promise<void> {
  if (image.node.dirtyBitmaps.length === 0) return;
  try {
    await storeBitmaps(image);
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    const { nodeName } = image.node;
    image.log.error(
      `Lost persistent bitmaps during inactivation of node '${nodeName}': ${error.message}`,
    );
  }
}
