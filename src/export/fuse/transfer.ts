// FUSE_READ and FUSE_WRITE. At the end of the file both are short, as of any file; a growable one grows instead.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { RequestFlags } from '../../block/block-driver.ts';
import type { FuseFile } from './fuse-file.ts';
import { MAX_TRANSFER } from './protocol.ts';
import type { FuseRequest } from './wire.ts';

/** Bytes read to `at`: fewer than asked for at the end only. Throws or rejects IoError. */
export function readFile(
  file: FuseFile,
  { offset, length }: FuseRequest,
  into: IoBuffer,
  at: number,
): MaybePromise<number> {
  if (length > MAX_TRANSFER) throw new IoError(errno.EINVAL, { syscall: 'read', offset });
  const count = Math.min(length, file.length - offset);
  if (count <= 0) return 0;
  const later = file.backend.read(offset, count, into, at);
  return later === undefined ? count : later.then(() => count);
}

/** What is written, and how. */
export interface WrittenData {
  readonly from: IoBuffer;
  readonly at: number;
  readonly flags: RequestFlags;
}

/** Bytes written. Throws or rejects IoError. */
export function writeFile(
  file: FuseFile,
  { offset, length }: FuseRequest,
  data: WrittenData,
): MaybePromise<number> {
  if (!file.writable) throw new IoError(errno.EACCES, { syscall: 'write', offset });
  const room = file.length - offset;
  if (length > room) {
    if (file.growable) return growAndWrite(file, { offset, length }, data);
    if (room < 0) throw new IoError(errno.EIO, { syscall: 'write', offset });
  }
  const count = Math.min(length, room);
  if (count === 0) return 0;
  const later = file.backend.write(offset, count, data.from, data.at, data.flags);
  return later === undefined ? count : later.then(() => count);
}

async function growAndWrite(
  file: FuseFile,
  { offset, length }: Pick<FuseRequest, 'offset' | 'length'>,
  { from, at, flags }: WrittenData,
): Promise<number> {
  await file.grow(offset + length);
  await file.backend.write(offset, length, from, at, flags);
  return length;
}
