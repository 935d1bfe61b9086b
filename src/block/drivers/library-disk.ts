// A node whose disk is an object of the program that has the daemon in it: what that object does not tell, the block layer
// makes up for. No QAPI driver, so that no command can ask for it.

import { inspect } from 'node:util';
import { type ErrnoName, errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import {
  BLOCK_DATA,
  BLOCK_ZERO,
  type BlockDriver,
  type BlockStatus,
  MAY_UNMAP,
} from '../block-driver.ts';
import type { Disk, DiskStatus } from '../disk.ts';

export const LIBRARY_DISK = 'x-library-disk';

/** The block layer's function for each of a disk's own that it need not have. */
const counterparts = {
  write: 'write',
  writeZeroes: 'writeZeroes',
  discard: 'discard',
  flush: 'flush',
  blockStatus: 'status',
  close: 'close',
} as const satisfies Partial<Record<keyof BlockDriver, keyof Disk>>;

/** The driver of one disk. Throws TypeError when it is none. */
export function libraryDisk(disk: Disk, log: Logger): BlockDriver {
  checkDisk(disk);
  const run = <T, Result>(
    syscall: string,
    offset: number,
    work: () => MaybePromise<T>,
    take: (value: T) => Result,
  ): MaybePromise<Result> => {
    const failed = (error: unknown): never => {
      throw ioErrorOf(error, { syscall, offset, log });
    };
    try {
      const result = work();
      // Be it a promise of another kind than ours, as programs have them.
      return isThenable(result) ? Promise.resolve(result).then(take, failed) : take(result);
    } catch (error) {
      return failed(error);
    }
  };
  const optional: Pick<BlockDriver, keyof typeof counterparts> = {
    write: (_node, offset, length, from, at) =>
      run('write', offset, () => disk.write?.(viewOf(from, at, length), offset), nothing),
    writeZeroes: (_node, offset, length, flags) => {
      const options = { mayUnmap: (flags & MAY_UNMAP) !== 0 };
      return run(
        'write zeroes',
        offset,
        () => disk.writeZeroes?.(offset, length, options),
        nothing,
      );
    },
    discard: (_node, offset, length) =>
      run('discard', offset, () => disk.discard?.(offset, length), nothing),
    flush: () => run('flush', 0, () => disk.flush?.(), nothing),
    blockStatus: (_node, offset, length) =>
      run(
        'status',
        offset,
        () => disk.status?.(offset, length),
        (found) => blockStatusOf(found, offset),
      ),
    close: () => run('close', 0, () => disk.close?.(), nothing),
  };
  return {
    name: LIBRARY_DISK,
    kind: 'protocol',
    strongOptions: [],
    open(node) {
      if (disk.writeZeroes !== undefined) node.supportedZeroFlags = MAY_UNMAP;
      return {};
    },
    length() {
      const { size } = disk;
      if (Number.isSafeInteger(size) && size >= 0) return size;
      throw new IoError(errno.EINVAL, { syscall: 'size' });
    },
    read: (_node, offset, length, into, at) =>
      run('read', offset, () => disk.read(viewOf(into, at, length), offset), nothing),
    ...Object.fromEntries(
      Object.entries(optional).filter(
        ([name]) => disk[counterparts[name as keyof typeof counterparts]] !== undefined,
      ),
    ),
  };
}

/** A program need not have been compiled with types. */
function checkDisk(disk: Disk): void {
  if (typeof disk !== 'object' || disk === null) throw new TypeError('A disk must be an object');
  if (typeof disk.read !== 'function') throw new TypeError('A disk must have a function read');
  for (const name of Object.values(counterparts)) {
    if (disk[name] !== undefined && typeof disk[name] !== 'function') {
      throw new TypeError(`A disk's ${name} must be a function`);
    }
  }
}

/** What a disk returns for nothing in particular is nobody's answer. */
function nothing(): void {}

function isThenable<T>(value: MaybePromise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | undefined)?.then === 'function';
}

/** Throws IoError when that is no status. */
function blockStatusOf(found: DiskStatus | undefined, offset: number): BlockStatus {
  // A program need not have been compiled with types, here either.
  const { kind, length = 0 } = found ?? {};
  if (Number.isSafeInteger(length) && length > 0) {
    return { status: kind === 'zero' ? BLOCK_ZERO : BLOCK_DATA, length };
  }
  throw new IoError(errno.EIO, { syscall: 'status', offset });
}

function viewOf(buffer: IoBuffer, at: number, length: number): Uint8Array {
  return buffer.bytes.subarray(at, at + length);
}

function ioErrorOf(
  error: unknown,
  context: { readonly syscall: string; readonly offset: number; readonly log: Logger },
): IoError {
  if (error instanceof IoError) return error;
  const { syscall, offset, log } = context;
  // It may be anything, if only nothing at all.
  const { code } = Object(error) as NodeJS.ErrnoException;
  if (code === undefined) {
    const reason = error instanceof Error ? String(error) : inspect(error);
    log.error(`A disk failed to ${syscall} at ${offset}: ${reason}`, { err: error });
  }
  const isKnown = code !== undefined && Object.hasOwn(errno, code);
  return new IoError(isKnown ? errno[code as ErrnoName] : errno.EIO, { syscall, offset });
}
