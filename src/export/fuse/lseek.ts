// FUSE_LSEEK: where data and holes begin, from block status.

import { setImmediate } from 'node:timers/promises';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import { BLOCK_DATA, BLOCK_EOF, type BlockStatus } from '../../block/block-driver.ts';
import type { FuseFile } from './fuse-file.ts';
import { SEEK_DATA, SEEK_HOLE } from './protocol.ts';
import type { FuseRequest } from './wire.ts';

/** Extents that are looked at before others get their turn. */
const EXTENTS_PER_TURN = 64;

/** The offset of the first data or hole at or after the one given. Throws or rejects IoError. */
export function seekInFile(
  file: FuseFile,
  { offset, mode: whence }: FuseRequest,
): MaybePromise<number> {
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw failure(errno.EINVAL, offset);
  const first = statusFrom(file, offset);
  if (!(first instanceof Promise)) {
    const found = judge(file, offset, whence, first);
    if (found !== undefined) return found;
  }
  return search(file, offset, whence, first);
}

async function search(
  file: FuseFile,
  start: number,
  whence: number,
  first: MaybePromise<BlockStatus>,
): Promise<number> {
  let status = await first;
  for (let offset = start, extents = 1; ; extents++) {
    const found = judge(file, offset, whence, status);
    if (found !== undefined) return found;
    offset += status.length;
    if (extents % EXTENTS_PER_TURN === 0) await setImmediate();
    status = await statusFrom(file, offset);
  }
}

/** The answer if this extent gives it, undefined if the next one has to be looked at. Throws IoError. */
function judge(
  file: FuseFile,
  offset: number,
  whence: number,
  { status, length }: BlockStatus,
): number | undefined {
  if (length === 0 && (status & BLOCK_EOF) !== 0) {
    // The end is a hole. Where the last sector is not whole, what is added to it is one, too.
    if (offset > file.length || whence === SEEK_DATA) throw failure(errno.ENXIO, offset);
    return offset;
  }
  if (((status & BLOCK_DATA) !== 0) === (whence === SEEK_DATA)) return offset;
  if (length === 0) throw failure(errno.ENXIO, offset);
  return undefined;
}

function statusFrom(file: FuseFile, offset: number): MaybePromise<BlockStatus> {
  return file.backend.blockStatus(offset, Number.MAX_SAFE_INTEGER - offset);
}

function failure(code: number, offset: number): IoError {
  return new IoError(code, { syscall: 'lseek', offset });
}
