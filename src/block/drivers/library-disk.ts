// A node whose disk is an object of the program that has the daemon in it: what that object does not tell, the block layer
// makes up for. No QAPI driver, so that no command can ask for it.

import { type ErrnoName, errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import { BLOCK_DATA, BLOCK_ZERO, type BlockDriver, MAY_UNMAP } from '../block-driver.ts';
import type { Disk } from '../disk.ts';

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
  const run = <T>(
    syscall: string,
    offset: number,
    work: () => MaybePromise<T>,
  ): MaybePromise<T> => {
    const failed = (error: unknown): never => {
      throw ioErrorOf(error, { syscall, offset, log });
    };
    try {
      const result = work();
      return result instanceof Promise ? result.catch(failed) : result;
    } catch (error) {
      return failed(error);
    }
  };
  const optional: Pick<BlockDriver, keyof typeof counterparts> = {
    write: (_node, offset, length, from, at) =>
      run('write', offset, () => disk.write?.(viewOf(from, at, length), offset)),
    writeZeroes: (_node, offset, length, flags) => {
      const mayUnmap = (flags & MAY_UNMAP) !== 0;
      return run('write zeroes', offset, () => disk.writeZeroes?.(offset, length, { mayUnmap }));
    },
    discard: (_node, offset, length) =>
      run('discard', offset, () => disk.discard?.(offset, length)),
    flush: () => run('flush', 0, () => disk.flush?.()),
    async blockStatus(_node, offset, length) {
      const found = await run('status', offset, () => disk.status?.(offset, length));
      if (found === undefined || !(Number.isSafeInteger(found.length) && found.length > 0)) {
        throw new IoError(errno.EIO, { syscall: 'status', offset });
      }
      return { status: found.kind === 'zero' ? BLOCK_ZERO : BLOCK_DATA, length: found.length };
    },
    close: () => run('close', 0, () => disk.close?.()),
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
      run('read', offset, () => disk.read(viewOf(into, at, length), offset)),
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

function viewOf(buffer: IoBuffer, at: number, length: number): Uint8Array {
  return buffer.bytes.subarray(at, at + length);
}

function ioErrorOf(
  error: unknown,
  context: { readonly syscall: string; readonly offset: number; readonly log: Logger },
): IoError {
  if (error instanceof IoError) return error;
  const { syscall, offset, log } = context;
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) {
    log.error(`A disk failed to ${syscall} at ${offset}: ${String(error)}`, { err: error });
  }
  return new IoError(errno[code as ErrnoName] ?? errno.EIO, { syscall, offset });
}
