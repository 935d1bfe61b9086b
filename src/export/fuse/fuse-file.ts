// The file that an export shows: the node, the rights on it, and changes of its length, one at a time.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { Mutex } from '../../base/mutex.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import { ZERO_WRITE } from '../../block/block-driver.ts';
import { allocatedSize } from '../../block/query.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { PreallocMode } from '../../qapi/generated/types.ts';
import type { FuseAttributes } from './wire.ts';

export const S_IFREG = 0o100000;
const S_IRUSR = 0o400;
const S_IWUSR = 0o200;

/** The largest disk that the reference has, in bytes. */
const MAX_LENGTH = 2 ** 63 - 2 ** 30;

/** What st_blocks counts. */
const BLOCK = 512;

export interface FuseFileOptions {
  readonly backend: BlockBackend;
  readonly writable: boolean;
  /** Writes beyond the end make it longer. */
  readonly growable: boolean;
  /** Whose it is at first. */
  readonly uid: number;
  readonly gid: number;
}

export class FuseFile {
  readonly backend: BlockBackend;
  readonly writable: boolean;
  readonly growable: boolean;
  /** Known once it is mounted: others than the owner may get to it. */
  allowOther = false;
  mode: number;
  uid: number;
  gid: number;
  readonly #resizing = new Mutex();

  constructor({ backend, writable, growable, uid, gid }: FuseFileOptions) {
    this.backend = backend;
    this.writable = writable;
    this.growable = growable;
    this.mode = S_IFREG | S_IRUSR | (writable ? S_IWUSR : 0);
    this.uid = uid;
    this.gid = gid;
  }

  get length(): number {
    return this.backend.length;
  }

  attributes(): FuseAttributes {
    const { backend, mode, uid, gid } = this;
    const size = backend.length;
    const allocated = allocatedSize(backend.node) ?? 0;
    return {
      size,
      blocks: Math.ceil((allocated > 0 ? allocated : size) / BLOCK),
      time: Math.floor(Date.now() / 1000),
      mode,
      uid,
      gid,
      blockSize: backend.limits.requestAlignment,
    };
  }

  /** Runs `change`, which looks at the length and sets it, while nothing else does. */
  resizing(change: () => Promise<void>): Promise<void> {
    return this.#resizing.run(change);
  }

  /** Sets the length, new bytes being zeroes; inside resizing() only. Rejects IoError. */
  async setLength(
    length: number,
    {
      prealloc = 'off',
      zero = true,
    }: { readonly prealloc?: PreallocMode; readonly zero?: boolean } = {},
  ): Promise<void> {
    if (length > MAX_LENGTH) throw failure(length);
    try {
      const flags = zero ? ZERO_WRITE : 0;
      await this.backend.truncate(length, { exact: true, prealloc, flags });
    } catch (error) {
      throw ioErrorOf(error, length);
    }
  }

  /** Makes it at least `length` long. Rejects IoError. */
  grow(length: number): Promise<void> {
    return this.resizing(async () => {
      if (length > this.length) await this.setLength(length);
    });
  }
}

/** Texts are for commands: of a failure here the errno counts. */
function ioErrorOf(error: unknown, length: number): unknown {
  if (!(error instanceof QmpError)) return error;
  if (error.cause instanceof IoError) return error.cause;
  return failure(length);
}

function failure(length: number): IoError {
  return new IoError(errno.EIO, { syscall: 'truncate', offset: length });
}
