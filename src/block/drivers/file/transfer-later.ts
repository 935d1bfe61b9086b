// What an image file is asked for that would make the main thread wait: the kernel's ring does it, or the thread pool. The ring
// makes one attempt; what is left after a short one, and what the kernel wants repeated, goes to the pool.

import { errno } from '../../../base/errno.ts';
import { IoError, type IoErrorContext } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import type { RingDone } from '../../../base/request-ring.ts';
import { fdatasyncLater, preadLater, pwriteLater, type Transfer } from '../../../sys/file.ts';
import type { ImageFile } from './image-file.ts';

/** A read of so many bytes may end with a copy from the page cache in this thread. */
const COPIED_HERE = 64 * 1024;

/** The request did not come to be carried out; ECANCELED: the kernel may start no thread for it. */
const retried: ReadonlySet<number> = new Set([errno.EAGAIN, errno.EINTR, errno.ECANCELED]);

/** Reads; what lies beyond the end of the file reads as zeroes. Rejects IoError. */
export function readLater(
  file: ImageFile,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): Promise<void> {
  const transfer = { bytes: into.bytes, at, length, offset };
  const ring = file.ring.forReads(file.isDirect);
  if (ring === undefined) return file.inPool((fd) => readAll({ fd, ...transfer }, 0));
  return byRing(file, {
    context: { syscall: 'pread', offset },
    start(fd, done) {
      const aside = !file.isDirect && length > COPIED_HERE;
      ring.read({ fd, buffer: into, at, length, offset, aside }, done);
    },
    expected: length,
    rest: (fd, begin) => readAll({ fd, ...transfer }, begin),
  });
}

/** Writes. Rejects IoError. */
export function writeLater(
  file: ImageFile,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<void> {
  const transfer = { bytes: from.bytes, at, length, offset };
  const ring = file.ring.forWrites(file.isDirect);
  if (ring === undefined) return file.inPool((fd) => writeAll({ fd, ...transfer }, 0));
  return byRing(file, {
    context: { syscall: 'pwrite', offset },
    start(fd, done) {
      ring.write({ fd, buffer: from, at, length, offset, aside: !file.isDirect }, done);
    },
    expected: length,
    rest: (fd, begin) => writeAll({ fd, ...transfer }, begin),
  });
}

/** Makes everything written durable. Rejects IoError. */
export function syncLater(file: ImageFile): Promise<void> {
  const ring = file.ring.forFlushes();
  if (ring === undefined) return file.inPool(fdatasyncLater);
  return byRing(file, {
    context: { syscall: 'fdatasync' },
    start: (fd, done) => ring.fdatasync(fd, done),
    expected: 0,
    rest: fdatasyncLater,
  });
}

interface Attempt {
  /** Of its error. */
  readonly context: IoErrorContext;
  /** Asks the ring. */
  readonly start: (fd: number, done: RingDone) => void;
  /** The answer that stands for all of it. */
  readonly expected: number;
  /** Does what is left after `begin` bytes. */
  readonly rest: (fd: number, begin: number) => Promise<void>;
}

function byRing(file: ImageFile, { context, start, expected, rest }: Attempt): Promise<void> {
  return new Promise((fulfil, reject) => {
    const fd = file.enter();
    const succeed = (): void => {
      file.leave();
      fulfil();
    };
    const fail = (error: unknown): void => {
      file.leave();
      reject(error);
    };
    start(fd, (result) => {
      if (result === expected) succeed();
      else if (result < 0 && !retried.has(-result)) fail(new IoError(-result, context));
      else rest(fd, Math.max(0, result)).then(succeed, fail);
    });
  });
}

/** Reads what is left after `begin` bytes. */
async function readAll(transfer: Transfer, begin: number): Promise<void> {
  const { bytes, at, length } = transfer;
  let done = begin;
  while (done < length) {
    const count = await readPart(transfer, done);
    if (count === 0) {
      bytes.fill(0, at + done, at + length);
      return;
    }
    done += count;
  }
}

async function readPart(transfer: Transfer, done: number): Promise<number> {
  try {
    return await preadLater(part(transfer, done));
  } catch (error) {
    // Direct I/O went to the end of a file of odd length: there is nothing behind it.
    if (done > 0 && error instanceof IoError && error.errno === errno.EINVAL) return 0;
    throw error;
  }
}

/** Writes what is left after `begin` bytes. */
async function writeAll(transfer: Transfer, begin: number): Promise<void> {
  let done = begin;
  while (done < transfer.length) {
    const count = await pwriteLater(part(transfer, done));
    if (count === 0) {
      throw new IoError(errno.EINVAL, { syscall: 'pwrite', offset: transfer.offset + done });
    }
    done += count;
  }
}

function part(transfer: Transfer, done: number): Transfer {
  if (done === 0) return transfer;
  return {
    ...transfer,
    at: transfer.at + done,
    length: transfer.length - done,
    offset: transfer.offset + done,
  };
}
