// Changing the length of an image file. Devices keep theirs.

import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { fileLength, fileStatus, pwriteNow, setFileLength } from '../../../sys/file.ts';
import { allocate, release } from '../../../sys/memory.ts';
import type { TruncateOptions } from '../../block-driver.ts';
import type { ImageFile } from './image-file.ts';

/** Throws QmpError with the reference's texts. */
export function resizeFile(image: ImageFile, length: number, options: TruncateOptions): void {
  if (image.isRegular) resizeRegular(image, length, options);
  else checkDevice(image, length, options);
}

function resizeRegular(image: ImageFile, length: number, options: TruncateOptions): void {
  const before = currentLength(image);
  if (options.prealloc !== 'off') {
    if (before > length) throw new QmpError('Cannot use preallocation for shrinking files');
    throw new QmpError(`Unsupported preallocation mode: ${options.prealloc}`);
  }
  try {
    setFileLength(image.fd, length);
  } catch (error) {
    const reason = error instanceof IoError ? error.reason : String(error);
    throw new QmpError(`Could not resize file: ${reason}`, { cause: error });
  }
  if (before === 0 && length > 0) allocateFirstBlock(image, length);
}

/**
 * Data in the first block make later probing of direct I/O alignment reliable: reads from a hole may succeed with any
 * alignment. That this may fail does not matter.
 */
function allocateFirstBlock(image: ImageFile, length: number): void {
  const block = allocate(4096);
  pwriteNow(image.fd, block.address, length < 4096 ? 512 : 4096, 0);
  release(block);
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

function currentLength(image: ImageFile): number {
  try {
    return fileStatus(image.fd).size;
  } catch (error) {
    const code = error instanceof IoError ? error.errno : errno.EIO;
    throw new QmpError(`Could not stat file: ${strerror(code)}`, { cause: error });
  }
}
