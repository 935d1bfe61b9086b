// Reads and writes of an image file. What is in the page cache is served at once on the main thread (a microsecond, where
// handing it over takes tens); whatever would wait, large requests and direct I/O are done beside it.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { preadNow, pwriteNow } from '../../../sys/file.ts';
import { OTHERS_WAIT, type RequestFlags } from '../../block-driver.ts';
import type { ImageFile } from './image-file.ts';
import { readLater, writeLater } from './transfer-later.ts';

/** Largest request that is copied on the main thread, in bytes: some 100 microseconds. */
const INLINE_READ_MAX = 1024 * 1024;
const INLINE_WRITE_MAX = 1024 * 1024;
/** The same where others wait: handing it over costs about as much as this copy. */
const INLINE_BESIDE_MAX = 64 * 1024;

/** Reads; what lies beyond the end of the file reads as zeroes. Throws or rejects IoError. */
export function readFile(
  file: ImageFile,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): MaybePromise<void> {
  if (length > INLINE_READ_MAX || file.isDirect) {
    return file.direct === undefined
      ? readLater(file, offset, length, into, at)
      : readDirect(file, offset, length, into, at);
  }
  if (!file.canReadNow && !file.inMemory) return readLater(file, offset, length, into, at);
  let done = 0;
  while (done < length) {
    const address = into.address + at + done;
    const result = file.canReadNow
      ? file.reader.read(file.fd, address, length - done, offset + done)
      : preadNow(file.fd, address, length - done, offset + done);
    if (result > 0) {
      done += result;
    } else if (result === 0) {
      into.bytes.fill(0, at + done, at + length);
      return;
    } else if (result === -errno.EAGAIN) {
      return readLater(file, offset + done, length - done, into, at + done);
    } else if (result === -errno.ENOTSUP && file.canReadNow) {
      file.canReadNow = false;
      return readFile(file, offset, length, into, at);
    } else if (result !== -errno.EINTR) {
      throw new IoError(-result, { syscall: 'pread', offset: offset + done });
    }
  }
}

/** Writes; a write beyond the end makes the file longer. Throws or rejects IoError. */
export function writeFile(
  file: ImageFile,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags = 0,
): MaybePromise<void> {
  const most = (flags & OTHERS_WAIT) === 0 ? INLINE_WRITE_MAX : INLINE_BESIDE_MAX;
  if (length > most || file.isDirect) {
    return file.direct === undefined
      ? writeLater(file, offset, length, from, at)
      : writeDirect(file, offset, length, from, at);
  }
  const begin = performance.now();
  if (!file.pace.allows(begin)) return writeLater(file, offset, length, from, at);
  const result = pwriteNow(file.fd, from.address + at, length, offset);
  file.pace.note(begin, performance.now());
  if (result === length) return;
  if (result < 0) {
    if (result !== -errno.EINTR) throw new IoError(-result, { syscall: 'pwrite', offset });
    return writeLater(file, offset, length, from, at);
  }
  return writeLater(file, offset + result, length - result, from, at + result);
}

async function readDirect(
  file: ImageFile,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): Promise<void> {
  if (isAligned(file, length, into.address + at)) {
    return readLater(file, offset, length, into, at);
  }
  const bounce = file.bounce.take(length);
  await readLater(file, offset, length, bounce, 0);
  bounce.bytes.copy(into.bytes, at, 0, length);
  file.bounce.give(bounce);
}

async function writeDirect(
  file: ImageFile,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<void> {
  if (isAligned(file, length, from.address + at)) {
    return writeLater(file, offset, length, from, at);
  }
  const bounce = file.bounce.take(length);
  from.bytes.copy(bounce.bytes, 0, at, at + length);
  await writeLater(file, offset, length, bounce, 0);
  file.bounce.give(bounce);
}

function isAligned(file: ImageFile, length: number, address: number): boolean {
  const { direct } = file;
  return direct === undefined || (address % direct.memory === 0 && length % direct.request === 0);
}
