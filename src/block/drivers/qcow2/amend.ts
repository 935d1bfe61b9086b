// x-blockdev-amend for `qcow2`. In the reference it changes how an image is encrypted, and nothing else; there are no encrypted
// images here.

import type { BlockdevAmendOptionsQcow2 } from '../../../qapi/generated/types.ts';
import { checkUsable } from './corruption.ts';
import type { Qcow2Image } from './image.ts';

/** Throws IoError when the image cannot be used any more. */
export function amendImage(image: Qcow2Image, _options: BlockdevAmendOptionsQcow2): void {
  checkUsable(image);
}
