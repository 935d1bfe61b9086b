// FUSE_FALLOCATE: preallocation beyond the end, holes and zeroes.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { MAY_UNMAP, NO_FALLBACK } from '../../block/block-driver.ts';
import { alignedDown, alignedUp } from '../../block/io-driver.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from '../../sys/file.ts';
import type { FuseFile } from './fuse-file.ts';
import type { FuseRequest } from './wire.ts';

/** Throws or rejects IoError. */
export function allocateFile(file: FuseFile, request: FuseRequest): void | Promise<void> {
  const { offset, mode } = request;
  if (!file.writable) throw failure(errno.EACCES, offset);
  const keepsSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  const end = offset + request.length;
  const kept = keepsSize ? Math.min(request.length, file.length - offset) : request.length;
  if (mode === 0) return preallocate(file, offset, end);
  const changes = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0;
  // As the reference has it.
  if (changes && kept < 0) throw failure(errno.EIO, offset);
  if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
    if (!keepsSize) throw failure(errno.EINVAL, offset);
    return punchHole(file, offset, kept);
  }
  if ((mode & FALLOC_FL_ZERO_RANGE) !== 0) {
    if (keepsSize || end <= file.length) return file.backend.writeZeroes(offset, kept);
    return growAndZero(file, offset, end);
  }
  throw failure(errno.ENOTSUP, offset);
}

/**
 * The range reads as zeroes afterwards, as fallocate(2) promises and as QEMU has it since 8.0: a loop device relies on it.
 * Whole blocks of the node are unmapped, or it is not done; only what is left at the edges may be written.
 */
async function punchHole(file: FuseFile, offset: number, length: number): Promise<void> {
  const { backend } = file;
  const { zeroAlignment, requestAlignment } = backend.limits;
  const alignment = Math.max(zeroAlignment, requestAlignment);
  const end = offset + length;
  const first = Math.min(alignedUp(offset, alignment), end);
  const last = end === file.length ? end : Math.max(alignedDown(end, alignment), first);
  if (last > first) await backend.writeZeroes(first, last - first, MAY_UNMAP | NO_FALLBACK);
  if (first > offset) await backend.writeZeroes(offset, first - offset);
  if (end > last) await backend.writeZeroes(last, end - last);
}

/** Nothing tells a node to allocate what it has: only what is beyond the end can be preallocated. */
function preallocate(file: FuseFile, offset: number, end: number): Promise<void> {
  return file.resizing(async () => {
    if (offset < file.length) throw failure(errno.ENOTSUP, offset);
    if (offset > file.length) await file.setLength(offset);
    await file.setLength(end, { prealloc: 'falloc' });
  });
}

async function growAndZero(file: FuseFile, offset: number, end: number): Promise<void> {
  await file.resizing(async () => {
    // Zeroes are written afterwards.
    if (end > file.length) await file.setLength(end, { zero: false });
  });
  await file.backend.writeZeroes(offset, end - offset);
}

function failure(code: number, offset: number): IoError {
  return new IoError(code, { syscall: 'fallocate', offset });
}
