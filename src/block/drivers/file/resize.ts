// Changing the length of an image file. Devices keep theirs.

import type { MaybePromise } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { fileLength } from '../../../sys/file.ts';
import type { TruncateOptions } from '../../block-driver.ts';
import type { ImageFile } from './image-file.ts';
import { setRegularLength } from './length.ts';

/** Throws or rejects QmpError with the reference's texts. */
export function resizeFile(
  image: ImageFile,
  length: number,
  options: TruncateOptions,
): MaybePromise<void> {
  if (image.isRegular) {
    return image.inPool((fd) => setRegularLength(fd, length, options.prealloc));
  }
  checkDevice(image, length, options);
}

function checkDevice(image: ImageFile, length: number, options: TruncateOptions): void {
  if (options.prealloc !== 'off') {
    throw new QmpError(
      `Preallocation mode '${options.prealloc}' unsupported for this non-regular file`,
    );
  }
  const current = fileLength(image.fd);
  if (length !== current && options.exact) throw new QmpError('Cannot resize device files');
  if (length > current) throw new QmpError('Cannot grow device files');
}
