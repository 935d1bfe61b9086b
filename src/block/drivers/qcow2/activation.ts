// An image that others may change for a while: before it, all that is only in memory is written, bitmaps included; after it,
// nothing that was known of it counts any more.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { bitmapsToReadOnly } from './bitmaps.ts';
import { writeRest } from './close.ts';
import type { Qcow2Image, Qcow2Node } from './image.ts';
import { reopenedImage } from './open.ts';
import { becomeWritable } from './reopen.ts';

/** Throws QmpError or IoError; all is as before then. */
export async function inactivateImage(image: Qcow2Image): Promise<void> {
  const { node } = image;
  if (image.unusable) throw new IoError(errno.ENOMEDIUM, { syscall: 'inactivate' });
  const persistent = node.dirtyBitmaps.filter((bitmap) => bitmap.persistent);
  for (const bitmap of persistent) bitmap.checkNotBusy();
  try {
    await bitmapsToReadOnly(image);
    await writeRest(image);
  } catch (error) {
    if (!node.readOnly) await becomeWritable(image);
    throw error;
  }
  // They are the image's now, and whoever activates it has them from there.
  const kept = node.dirtyBitmaps.filter((bitmap) => !bitmap.persistent);
  node.dirtyBitmaps.splice(0, node.dirtyBitmaps.length, ...kept);
}

/** Throws QmpError. */
export async function activateImage(node: Qcow2Node): Promise<void> {
  try {
    node.state = await reopenedImage(node);
  } catch (error) {
    if (!(error instanceof QmpError || error instanceof IoError)) throw error;
    const reason = error instanceof IoError ? error.reason : error.desc;
    throw new QmpError(`Could not reopen qcow2 layer: ${reason}`, { cause: error });
  }
}
