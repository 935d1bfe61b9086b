// Changing the length of an image file. Devices keep theirs.

import { errno } from '../../../base/errno.ts';
import type { MaybePromise } from '../../../base/io-buffer.ts';
import { fileLength } from '../../../sys/file.ts';
import type { TruncateOptions } from '../../block-driver.ts';
import { resizeError } from '../../resize-error.ts';
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
    throw resizeError(
      `Preallocation mode '${options.prealloc}' unsupported for this non-regular file`,
      errno.ENOTSUP,
    );
  }
  const current = fileLength(image.fd);
  if (length !== current && options.exact) {
    throw resizeError('Cannot resize device files', errno.ENOTSUP);
  }
  if (length > current) throw resizeError('Cannot grow device files', errno.EINVAL);
}
