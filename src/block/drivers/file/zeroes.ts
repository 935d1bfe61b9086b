// Discards and writes of zeroes: asks the file system or the device, from the best way down, and remembers what it cannot do.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { discardDeviceRange, zeroDeviceRange } from '../../../sys/block-device.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocateLater,
} from '../../../sys/file.ts';
import { MAY_UNMAP, NO_FALLBACK, type RequestFlags } from '../../block-driver.ts';
import type { ImageFile } from './image-file.ts';

const PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const DONE = 0;

/** Discards a range; rejects ENOTSUP where that cannot be done. */
export async function discardRange(file: ImageFile, offset: number, length: number): Promise<void> {
  const result = file.canDiscard ? await tryDiscard(file, offset, length) : -errno.ENOTSUP;
  if (result === -errno.ENOTSUP) file.canDiscard = false;
  if (result < 0) {
    file.discards.failed++;
    throw new IoError(-result, { syscall: 'discard', offset });
  }
  file.discards.succeeded++;
  file.discards.bytes += length;
}

/**
 * Makes a range read as zeroes, without writing any: rejects ENOTSUP where there is no way. `fileLength` is the node's, for
 * growing.
 */
export async function zeroRange(
  file: ImageFile,
  offset: number,
  length: number,
  options: { flags: RequestFlags; fileLength: number },
): Promise<void> {
  const result = await tryZero(file, offset, length, options);
  if (result < 0) throw new IoError(-result, { syscall: 'write zeroes', offset });
}

async function tryDiscard(file: ImageFile, offset: number, length: number): Promise<number> {
  if (!file.isBlockDevice) return allocate(file, PUNCH_HOLE, offset, length);
  return unsupported(await file.inPool((fd) => discardDeviceRange(fd, offset, length)));
}

async function tryZero(
  file: ImageFile,
  offset: number,
  length: number,
  options: { flags: RequestFlags; fileLength: number },
): Promise<number> {
  if ((options.flags & MAY_UNMAP) !== 0) {
    const result = await allocate(file, PUNCH_HOLE, offset, length);
    if (result !== -errno.ENOTSUP && result !== -errno.EINVAL && result !== -errno.EBUSY) {
      return result;
    }
  }
  if (!file.isRegular) return tryZeroDevice(file, offset, length, options.flags);
  return tryZeroFile(file, offset, length, options.fileLength);
}

async function tryZeroDevice(
  file: ImageFile,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<number> {
  // The kernel may write the zeroes itself, which is no fast way.
  if (!file.canZero || (flags & NO_FALLBACK) !== 0) return -errno.ENOTSUP;
  const result = unsupported(await file.inPool((fd) => zeroDeviceRange(fd, offset, length)));
  if (result === -errno.ENOTSUP) file.canZero = false;
  return result;
}

async function tryZeroFile(
  file: ImageFile,
  offset: number,
  length: number,
  fileLength: number,
): Promise<number> {
  if (file.canZero) {
    const result = await allocate(file, FALLOC_FL_ZERO_RANGE, offset, length);
    if (result === -errno.ENOTSUP) file.canZero = false;
    // EINVAL: some file systems refuse odd ranges, though they should not; other ways may do.
    else if (result !== -errno.EINVAL) return result;
  }
  if (file.canDiscard && file.canAllocate) {
    const result = await punchAndAllocate(file, offset, length);
    if (result !== -errno.ENOTSUP) return result;
  }
  if (file.canAllocate && offset >= fileLength) {
    const result = await allocate(file, 0, offset, length);
    if (result !== -errno.ENOTSUP) return result;
    file.canAllocate = false;
  }
  return -errno.ENOTSUP;
}

/** A hole first, then blocks for it that read as zeroes. */
async function punchAndAllocate(file: ImageFile, offset: number, length: number): Promise<number> {
  const punched = await allocate(file, PUNCH_HOLE, offset, length);
  if (punched === -errno.EINVAL) return -errno.ENOTSUP;
  if (punched === -errno.ENOTSUP) file.canDiscard = false;
  if (punched !== DONE) return punched;
  const allocated = await allocate(file, 0, offset, length);
  if (allocated === -errno.ENOTSUP) file.canAllocate = false;
  return allocated;
}

async function allocate(
  file: ImageFile,
  mode: number,
  offset: number,
  length: number,
): Promise<number> {
  return unsupported(await file.inPool((fd) => fallocateLater(fd, mode, offset, length)));
}

/** The many ways of file systems and devices to say that they cannot, as one. */
function unsupported(result: number): number {
  return result === -errno.ENODEV || result === -errno.ENOSYS || result === -errno.ENOTTY
    ? -errno.ENOTSUP
    : result;
}
