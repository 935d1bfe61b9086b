// An open image file or device: its descriptor, what it is known to be able to do, and the locks held through it. The
// descriptor is replaced when a read-write one is needed (auto-read-only), so requests beside this thread are counted.

import { type Stats, statSync } from 'node:fs';
import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { RingSource } from '../../../base/request-ring.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevAioOptions } from '../../../qapi/generated/types.ts';
import { isReadOnlyDevice } from '../../../sys/block-device.ts';
import {
  CacheProbe,
  closeFile,
  fileStatus,
  isInMemory,
  isMountedOver,
  isOnNfs,
  NowReader,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  openFile,
} from '../../../sys/file.ts';
import { PERM_ALL, type Permissions } from '../../block-driver.ts';
import type { BouncePool } from '../../bounce-pool.ts';
import { type DirectAlignment, probeDirectAlignment } from './direct-alignment.ts';
import { dropLocks, type HeldLocks, noLocks } from './image-lock.ts';
import { RingChoice } from './ring-choice.ts';
import { WritePace } from './write-pace.ts';

export interface ImageFileOptions {
  readonly path: string;
  /** O_RDONLY or O_RDWR, with O_DIRECT perhaps. */
  readonly openFlags: number;
  /** What the file must be. */
  readonly expect: 'regular file' | 'device';
  readonly driverName: string;
  readonly locking: boolean;
  /** Undefined: as is best. */
  readonly aio: BlockdevAioOptions | undefined;
  readonly ring: RingSource;
  /** Its pages leave the host's cache when it is made active. */
  readonly dropsCache: boolean;
  /** For direct I/O to memory that is not aligned. */
  readonly bounce: BouncePool;
}

/** A descriptor of the same file, opened in another way. */
interface Successor {
  readonly fd: number;
  readonly openFlags: number;
  readonly direct: DirectAlignment | undefined;
}

export class ImageFile {
  readonly path: string;
  readonly locking: boolean;
  readonly isBlockDevice: boolean;
  readonly isRegular: boolean;
  dropsCache: boolean;
  fd: number;
  openFlags: number;

  // What the file system or device can do, until it says otherwise.
  canDiscard = true;
  canZero: boolean;
  canAllocate: boolean;
  /** RWF_NOWAIT is understood. */
  canReadNow = true;
  /** The file is nothing but page cache: reads never wait. */
  readonly inMemory: boolean;
  /** Set for direct I/O that has to be aligned. */
  direct: DirectAlignment | undefined;
  /** Why fdatasync failed: from then on nobody knows what is on disk, so every later flush fails too. */
  failedSync = 0;

  /** The users' permissions, as last set, and the bytes locked for them. */
  perm: Permissions = 0;
  shared: Permissions = PERM_ALL;
  readonly locks: HeldLocks = noLocks();
  /** The descriptor that takes over if the permission change is carried out. */
  successor: Successor | undefined = undefined;

  readonly reader = new NowReader();
  readonly cache = new CacheProbe();
  readonly pace = new WritePace();
  readonly bounce: BouncePool;
  readonly ring: RingChoice;
  readonly discards = { succeeded: 0, failed: 0, bytes: 0 };
  #beside = 0;
  #retired: number[] = [];

  /** Opens. Throws QmpError with the reference's texts; no descriptor stays open then. */
  constructor(options: ImageFileOptions) {
    this.path = options.path;
    this.locking = options.locking;
    this.dropsCache = options.dropsCache;
    this.bounce = options.bounce;
    this.openFlags = options.openFlags;
    refuseFifo(options);
    this.fd = openDescriptor(options.path, options.openFlags);
    try {
      requireDirect(options);
      this.ring = new RingChoice(options.aio, options.ring);
      const status = statusOf(this.fd);
      requireKind(status, options);
      this.isRegular = status.isFile();
      this.isBlockDevice = status.isBlockDevice();
      this.inMemory = this.isRegular && isInMemory(this.fd);
      // BLKZEROOUT and BLKDISCARD leave stale data in the page cache.
      this.canZero = !this.isBlockDevice || (options.openFlags & O_DIRECT) !== 0;
      this.canAllocate = this.isRegular;
      this.direct = probe(this.fd, options.openFlags);
    } catch (error) {
      closeFile(this.fd);
      throw error;
    }
  }

  get isDirect(): boolean {
    return (this.openFlags & O_DIRECT) !== 0;
  }

  /** Opens the file once more with other flags, as the successor. Throws QmpError. */
  prepareSuccessor(openFlags: number): void {
    // What is mounted over it may be an export of this very file: to open that would be to wait for ourselves.
    const at = isMountedOver(this.path, this.fd) ? `/proc/self/fd/${this.fd}` : this.path;
    const fd = openDescriptor(this.path, openFlags, at);
    try {
      const direct = probe(fd, openFlags);
      this.successor = { fd, openFlags, direct };
    } catch (error) {
      closeFile(fd);
      throw error;
    }
  }

  /** Makes the successor the descriptor; requests under way finish with the old one. */
  adoptSuccessor(): void {
    if (this.successor === undefined) return;
    dropLocks(this.fd, { perm: PERM_ALL, unshared: PERM_ALL }, 0, 0);
    if (this.#beside === 0) closeFile(this.fd);
    else this.#retired.push(this.fd);
    this.fd = this.successor.fd;
    this.openFlags = this.successor.openFlags;
    this.direct = this.successor.direct;
    this.canZero = !this.isBlockDevice || this.isDirect;
    this.successor = undefined;
  }

  dropSuccessor(): void {
    if (this.successor !== undefined) closeFile(this.successor.fd);
    this.successor = undefined;
  }

  /** Counts `work`, which uses the descriptor in the thread pool. */
  async inPool<T>(work: (fd: number) => Promise<T>): Promise<T> {
    const fd = this.enter();
    try {
      return await work(fd);
    } finally {
      this.leave();
    }
  }

  /** The descriptor for a request that is done beside this thread; it stays open until leave() is called for that. */
  enter(): number {
    this.#beside++;
    return this.fd;
  }

  leave(): void {
    this.#beside--;
    if (this.#beside > 0 || this.#retired.length === 0) return;
    for (const fd of this.#retired.splice(0)) closeFile(fd);
  }

  close(): void {
    this.dropSuccessor();
    closeFile(this.fd);
    this.fd = -1;
  }
}

/** A rule of the kernel's asynchronous calls, which we have no use for. */
function requireDirect({ aio, openFlags }: ImageFileOptions): void {
  if (aio !== 'native' || (openFlags & O_DIRECT) !== 0) return;
  throw new QmpError(
    'aio=native was specified, but it requires cache.direct=on, which was not specified.',
  );
}

function probe(fd: number, openFlags: number): DirectAlignment | undefined {
  if ((openFlags & O_DIRECT) === 0 || isOnNfs(fd)) return undefined;
  return probeDirectAlignment(fd);
}

/** The flags for a file that is written to or not. */
export function openFlagsFor(options: { write: boolean; direct: boolean }): number {
  return (options.write ? O_RDWR : O_RDONLY) | (options.direct ? O_DIRECT : 0);
}

export const FDSET = '/dev/fdset/';

/** `path` is what the user knows it as, `at` where it is opened. */
function openDescriptor(path: string, flags: number, at = path): number {
  if (path.startsWith(FDSET)) throw noSuchFdset(path, flags);
  const fd = opened(path, flags, at);
  if ((flags & O_RDWR) !== 0) {
    // A device may be set read-only, whatever open(2) thinks; ENOTTY: it is not a device.
    const readOnly = isReadOnlyDevice(fd);
    if (readOnly > 0) {
      closeFile(fd);
      throw new QmpError(`The device is not writable: ${strerror(errno.EACCES)}`);
    }
  }
  return fd;
}

function opened(path: string, flags: number, at: string): number {
  try {
    return openFile(at, flags);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    if (error.errno === errno.EINVAL && (flags & O_DIRECT) !== 0 && opensBuffered(at, flags)) {
      throw new QmpError(`Could not open '${path}': filesystem does not support O_DIRECT`);
    }
    throw new QmpError(`Could not open '${path}': ${error.reason}`, { cause: error });
  }
}

function opensBuffered(path: string, flags: number): boolean {
  try {
    closeFile(openFile(path, flags & ~O_DIRECT));
    return true;
  } catch {
    return false;
  }
}

/** There are no descriptor sets without add-fd, which a storage daemon does not have. */
export function noSuchFdset(path: string, flags: number): QmpError {
  if (!/^\s*\+?\d+$/.test(path.slice(FDSET.length))) {
    return new QmpError(`Could not parse fdset ${path}`);
  }
  return new QmpError(
    `Could not dup FD for ${path} flags ${flags.toString(16)}: ${strerror(errno.ENOSYS)}`,
  );
}

function statusOf(fd: number): Stats {
  try {
    return fileStatus(fd);
  } catch (error) {
    const reason = error instanceof IoError ? error.reason : String(error);
    throw new QmpError(`Could not stat file: ${reason}`, { cause: error });
  }
}

/** Opening a FIFO would wait for somebody at its other end, and everything else with it. */
function refuseFifo(options: ImageFileOptions): void {
  let status: Stats;
  try {
    status = statSync(options.path);
  } catch {
    // open(2) will say why.
    return;
  }
  if (status.isFIFO()) requireKind(status, options);
}

function requireKind(status: Stats, options: ImageFileOptions): void {
  const subject = `'${options.driverName}' driver requires '${options.path}' to be`;
  if (options.expect === 'regular file') {
    if (!status.isFile()) throw new QmpError(`${subject} a regular file`);
  } else if (!status.isCharacterDevice() && !status.isBlockDevice()) {
    throw new QmpError(`${subject} either a character or block device`);
  }
}
