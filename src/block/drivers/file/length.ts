// Setting the length of a regular file, with storage reserved for what it grows by.

import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { PreallocMode } from '../../../qapi/generated/types.ts';
import {
  fallocateLater,
  fileStatus,
  fsyncLater,
  ftruncateLater,
  pwriteLater,
  pwriteNow,
} from '../../../sys/file.ts';
import { allocate, release } from '../../../sys/memory.ts';
import { resizeError } from '../../resize-error.ts';

/** Bytes of zeroes written at once. */
const PIECE = 1024 * 1024;

/** Throws QmpError with the reference's texts; a file that could not be preallocated has its old length then. */
export async function setRegularLength(
  fd: number,
  length: number,
  prealloc: PreallocMode,
): Promise<void> {
  const before = currentLength(fd);
  if (prealloc !== 'off' && before > length) {
    throw resizeError('Cannot use preallocation for shrinking files', errno.ENOTSUP);
  }
  if (prealloc === 'off') {
    await saying('Could not resize file', () => ftruncateLater(fd, length));
    if (before === 0 && length > 0) allocateFirstBlock(fd, length);
    return;
  }
  if (prealloc === 'metadata') {
    throw resizeError(`Unsupported preallocation mode: ${prealloc}`, errno.ENOTSUP);
  }
  try {
    if (prealloc === 'falloc') await reserve(fd, before, length);
    else await fill(fd, before, length);
  } catch (error) {
    await ftruncateLater(fd, before).catch(() => {});
    throw error;
  }
}

/** Has the file system allocate blocks; where it cannot, they are written. */
async function reserve(fd: number, before: number, length: number): Promise<void> {
  if (length === before) return;
  const result = await fallocateLater(fd, 0, before, length - before);
  if (result === -errno.ENOTSUP) {
    await saying('Could not preallocate new data', () => writeZeroes(fd, before, length));
  } else if (result < 0) {
    throw resizeError(`Could not preallocate new data: ${strerror(-result)}`, -result);
  }
  if (before === 0) allocateFirstBlock(fd, length);
}

async function fill(fd: number, before: number, length: number): Promise<void> {
  // The file system does better when it knows from the start how much there will be.
  await saying('Could not resize file', () => ftruncateLater(fd, length));
  await saying('Could not write zeros for preallocation', () => writeZeroes(fd, before, length));
  await saying('Could not flush file to disk', () => fsyncLater(fd));
}

async function writeZeroes(fd: number, from: number, to: number): Promise<void> {
  const { bytes } = allocate(Math.min(PIECE, to - from));
  for (let offset = from; offset < to; ) {
    const length = Math.min(bytes.length, to - offset);
    offset += await pwriteLater({ fd, bytes, at: 0, length, offset });
  }
}

/**
 * Data in the first block make later probing of direct I/O alignment reliable: reads from a hole may succeed with any
 * alignment. That this may fail does not matter.
 */
function allocateFirstBlock(fd: number, length: number): void {
  const block = allocate(4096);
  pwriteNow(fd, block.address, length < 4096 ? 512 : 4096, 0);
  release(block);
}

function currentLength(fd: number): number {
  try {
    return fileStatus(fd).size;
  } catch (error) {
    const code = error instanceof IoError ? error.errno : errno.EIO;
    throw new QmpError(`Could not stat file: ${strerror(code)}`, { cause: error });
  }
}

async function saying(what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${what}: ${error.reason}`, { cause: error });
  }
}
