// An image that is opened for writing: what others left in its header, and refcounts that are late.

import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { isDirty } from './dirty.ts';
import { AUTOCLEAR_KNOWN } from './features.ts';
import type { HeaderExtensions } from './header-extensions.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { writeAutoclear } from './header-update.ts';
import type { Qcow2Image } from './image.ts';
import { repairImage } from './repair.ts';
import { saying } from './saying.ts';

/** Bitmaps that others left behind when they wrote to the image. */
export function warnOfStaleBitmaps({ geometry, log }: Qcow2Image): void {
  const why =
    geometry.version < 3
      ? 'This qcow2 v2 image contains bitmaps, but they may have been modified by a program without ' +
        'persistent bitmap support; so now they must all be considered inconsistent'
      : 'a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent';
  log.warn(why, {
    hint: "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.",
  });
}

/** What must be done to an image that is opened for writing. Throws QmpError. */
export async function prepareToWrite(
  image: Qcow2Image,
  { hasStaleBitmaps }: HeaderExtensions,
): Promise<void> {
  if (image.node.readOnly) return;
  const kept = image.autoclear & AUTOCLEAR_KNOWN;
  try {
    if (hasStaleBitmaps) {
      image.autoclear = kept;
      await rewriteHeader(image);
      await image.file.flush();
    } else if (kept !== image.autoclear) {
      await writeAutoclear(image, kept);
    }
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not update qcow2 header: ${error.reason}`, { cause: error });
  }
  if (isDirty(image)) {
    await saying('Could not repair dirty image', () => image.lock.run(() => repairImage(image)));
  }
}
