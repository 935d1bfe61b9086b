// The drivers for what the host has: `file` for regular files, `host_device` for block and character devices.

import { errno, strerror } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type {
  BlockdevCreateOptionsFile,
  BlockdevOptionsFile,
} from '../../../qapi/generated/types.ts';
import { dropCacheLater, fileLength, fileStatus, isOneOf } from '../../../sys/file.ts';
import { clearDeadMount } from '../../../sys/unmount.ts';
import {
  BLOCK_DATA,
  BLOCK_OFFSET_VALID,
  type BlockDriver,
  MAY_UNMAP,
  NO_FALLBACK,
  OTHERS_WAIT,
  PERM_ALL,
  ZERO_WRITE,
} from '../../block-driver.ts';
import type { BlockNode } from '../../block-node.ts';
import { createFile } from './create.ts';
import { extentAt } from './extents.ts';
import { ImageFile, type ImageFileOptions, openFlagsFor } from './image-file.ts';
import { abortPermissions, checkPermissions, setPermissions } from './permissions.ts';
import { resizeFile } from './resize.ts';
import { readFile, writeFile } from './transfer.ts';
import { syncLater } from './transfer-later.ts';
import { discardRange, zeroRange } from './zeroes.ts';

/** Dead mounts on one image that are taken away, one after the other. */
const MAX_DEAD = 16;

type FileNode = BlockNode<ImageFile>;

/** What an image is opened with that no option says. */
type Surroundings = Pick<ImageFileOptions, 'expect' | 'ring'>;

export const file: BlockDriver<ImageFile, BlockdevOptionsFile, BlockdevCreateOptionsFile> = {
  ...imageDriver('file', 'regular file'),
  create: createFile,
};
export const hostDevice: BlockDriver<ImageFile, BlockdevOptionsFile> = imageDriver(
  'host_device',
  'device',
);

function imageDriver(
  name: 'file' | 'host_device',
  expect: ImageFileOptions['expect'],
): BlockDriver<ImageFile, BlockdevOptionsFile> {
  return {
    name,
    kind: 'protocol',
    strongOptions: [],
    needsFilename: true,

    open(node, options, { servedFiles, ring }) {
      const path = options.filename;
      if (isOneOf(path, servedFiles)) {
        throw new QmpError(`Could not open '${path}': ${strerror(errno.EDEADLK)}`);
      }
      try {
        return openImage(node, options, { expect, ring });
      } catch (error) {
        if (!isUnconnected(error)) throw error;
        return openUncovered(node, options, { expect, ring, error });
      }
    },
    changeableOptions: ['drop-cache'],
    // The descriptor changes with the permissions.
    reopen({ state }, options) {
      return {
        commit() {
          state.dropsCache = options['drop-cache'] ?? true;
        },
      };
    },
    close(node) {
      node.state.close();
    },
    async activate({ state }) {
      // Another machine may have written to it: what this one has cached is not what is there.
      if (state.isDirect || !state.dropsCache) return;
      await sync(state);
      await state.inPool(dropCacheLater);
    },

    length(node) {
      const length = fileLength(node.state.fd);
      if (length < 0) throw new IoError(-length, { syscall: 'lseek', path: node.state.path });
      return length;
    },
    refreshLimits(node, limits) {
      const { direct } = node.state;
      limits.requestAlignment = direct?.request ?? 1;
      limits.memoryAlignment = direct?.memory ?? 1;
    },

    read(node, offset, length, into, at) {
      return readFile(node.state, offset, length, into, at);
    },
    cachedRange({ state }, offset, length) {
      if (!state.isRegular || state.isDirect) return undefined;
      return state.cache.covers(state.fd, offset, length) ? { fd: state.fd, offset } : undefined;
    },
    write(node, offset, length, from, at, flags) {
      return writeFile(node.state, offset, length, from, at, flags);
    },
    writeZeroes(node, offset, length, flags) {
      return zeroRange(node.state, offset, length, { flags, fileLength: node.length });
    },
    discard(node, offset, length) {
      return discardRange(node.state, offset, length);
    },
    flush(node) {
      return sync(node.state);
    },
    blockStatus(node, offset, length, wantZero) {
      const extent = wantZero
        ? extentAt(node.state.fd, offset, length, node.limits.requestAlignment)
        : { status: BLOCK_DATA, length };
      return {
        status: extent.status | BLOCK_OFFSET_VALID,
        length: extent.length,
        hostOffset: offset,
        file: node,
      };
    },
    truncate(node, length, options) {
      return resizeFile(node.state, length, options);
    },

    checkPermissions(node, perm, shared) {
      checkPermissions(node, perm, shared);
    },
    setPermissions(node, perm, shared) {
      if (node.active) setPermissions(node.state, perm, shared);
      else setPermissions(node.state, 0, PERM_ALL);
    },
    abortPermissions(node) {
      abortPermissions(node.state);
    },
    allocatedSize(node) {
      return fileStatus(node.state.fd).blocks * 512;
    },
    imageInfo() {
      return { clusterSize: 0, isDirty: false };
    },
    specificStats(node) {
      const { succeeded, failed, bytes } = node.state.discards;
      return {
        driver: name,
        'discard-nb-ok': succeeded,
        'discard-nb-failed': failed,
        'discard-bytes-ok': bytes,
      };
    },
  };
}

function openImage(
  node: FileNode,
  options: BlockdevOptionsFile,
  { expect, ring }: Surroundings,
): ImageFile {
  const image = new ImageFile({
    path: options.filename,
    // With auto-read-only the first user that writes makes it read-write.
    openFlags: openFlagsFor({
      write: !node.readOnly && !node.autoReadOnly,
      direct: node.cacheDirect,
    }),
    expect,
    driverName: node.driver.name,
    locking: options.locking !== 'off',
    aio: options.aio,
    ring,
    dropsCache: options['drop-cache'] ?? true,
    bounce: node.pool,
  });
  node.supportedWriteFlags = OTHERS_WAIT;
  node.supportedZeroFlags = MAY_UNMAP | NO_FALLBACK;
  // A regular file that grows reads as zeroes there.
  if (image.isRegular) node.supportedTruncateFlags = ZERO_WRITE;
  return image;
}

function isUnconnected(error: unknown): boolean {
  const cause = error instanceof QmpError ? error.cause : undefined;
  return cause instanceof IoError && cause.errno === errno.ENOTCONN;
}

/** The image was served over FUSE in its own place, by a daemon that was killed: takes away what is left of that. */
async function openUncovered(
  node: FileNode,
  options: BlockdevOptionsFile,
  covered: Surroundings & { readonly error: unknown },
): Promise<ImageFile> {
  let { error } = covered;
  for (let dead = 0; dead < MAX_DEAD && (await clearDeadMount(options.filename)); dead++) {
    try {
      return openImage(node, options, covered);
    } catch (next) {
      if (!isUnconnected(next)) throw next;
      error = next;
    }
  }
  throw error;
}

/**
 * Makes everything written durable. After one failure every later call fails: the kernel has marked the pages clean that it
 * could not write, so a second attempt would say all is well. Not so with direct I/O, which leaves no pages behind.
 */
async function sync(image: ImageFile): Promise<void> {
  if (image.failedSync !== 0) throw new IoError(image.failedSync, { syscall: 'fdatasync' });
  try {
    await syncLater(image);
  } catch (error) {
    if (!image.isDirect) image.failedSync = error instanceof IoError ? error.errno : errno.EIO;
    throw error;
  }
}
