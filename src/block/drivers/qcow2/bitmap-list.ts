// The list of bitmaps that an image has, in memory and on disk. On disk it is only ever replaced as a whole: a new directory
// first, then the header that points at it. Where only flags change it is written in place, while the header says that there
// is nothing to be believed.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockChild } from '../../block-child.ts';
import { decodeDirectory, encodeDirectory, type StoredBitmap } from './bitmap-directory.ts';
import { AUTOCLEAR_BITMAPS, AUTOCLEAR_KNOWN } from './features.ts';
import { type BitmapsExtension, MAX_BITMAP_DIRECTORY, MAX_BITMAPS } from './header-extensions.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { writeAutoclear } from './header-update.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { checkOverlap, metadataOf } from './overlap.ts';
import { freeClaimed } from './refcount.ts';

/** Of a file; bytes. */
const MAX_OFFSET = 2 ** 63 - 2 ** 10;

/** The bitmaps of an image as they are on disk, and where their directory is. */
export interface BitmapList {
  readonly offset: number;
  /** Bytes; 0 where there is no directory. */
  readonly length: number;
  readonly bitmaps: readonly StoredBitmap[];
}

export const noBitmaps: BitmapList = { offset: 0, length: 0, bitmaps: [] };

/** Reads the directory. Throws QmpError with the reference's text. */
export async function readBitmapList(
  file: BlockChild,
  extension: BitmapsExtension | undefined,
  image: {
    readonly clusterSize: number;
    readonly size: number;
    readonly allocate: (length: number) => IoBuffer;
  },
): Promise<BitmapList> {
  if (extension === undefined) return noBitmaps;
  const { directoryOffset: offset, directoryLength: length, count } = extension;
  if (length === 0) throw new QmpError('Requested bitmap directory size is zero');
  const directory = image.allocate(length);
  try {
    await readAnywhere(file, offset, length, directory);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to read bitmap directory: ${error.reason}`, { cause: error });
  }
  const { clusterSize, size } = image;
  return {
    offset,
    length,
    bitmaps: decodeDirectory(directory.bytes, { count, clusterSize, size }),
  };
}

/** Reads from where an image says, which may be far behind the end of the file: there is nothing but zeroes. */
export async function readAnywhere(
  file: BlockChild,
  offset: number,
  length: number,
  into: IoBuffer,
): Promise<void> {
  if (offset + length > MAX_OFFSET) throw new IoError(errno.EIO, { syscall: 'bitmaps' });
  if (offset >= file.node.length) into.bytes.fill(0, 0, length);
  else await file.read(offset, length, into, 0);
}

/** Reads the directory of an image that is open once more. */
export function rereadBitmapList(image: Qcow2Image): Promise<BitmapList> {
  const { offset, length, bitmaps } = image.bitmaps;
  const extension = { count: bitmaps.length, directoryOffset: offset, directoryLength: length };
  return readBitmapList(image.file, extension, {
    clusterSize: image.geometry.clusterSize,
    size: image.size,
    allocate: image.allocate,
  });
}

/** Writes new flags into the directory where it is. Throws IoError. */
export async function updateInPlace(
  image: Qcow2Image,
  bitmaps: readonly StoredBitmap[],
): Promise<void> {
  const { offset, length } = image.bitmaps;
  const autoclear = image.autoclear & AUTOCLEAR_KNOWN;
  await writeAutoclear(image, autoclear & ~AUTOCLEAR_BITMAPS);
  const directory = encodeDirectory(bitmaps);
  if (directory.length !== length) throw new IoError(errno.EINVAL, { syscall: 'bitmap directory' });
  checkOverlap(image, offset, length, 'bitmap directory');
  await writeDirectory(image, directory, offset);
  await image.file.flush();
  await writeAutoclear(image, autoclear | AUTOCLEAR_BITMAPS);
  image.bitmaps = { offset, length, bitmaps };
}

/**
 * Replaces the directory, its bitmaps being written. `taken` gets its clusters. The lock is held. Throws IoError: the old
 * directory still counts then.
 */
export async function replaceList(
  image: Qcow2Image,
  bitmaps: readonly StoredBitmap[],
  taken: Set<number>,
): Promise<void> {
  const old = image.bitmaps;
  const autoclear = image.autoclear & AUTOCLEAR_KNOWN;
  if (bitmaps.length > MAX_BITMAPS)
    throw new IoError(errno.EINVAL, { syscall: 'bitmap directory' });
  const list = bitmaps.length === 0 ? noBitmaps : await writeList(image, bitmaps, taken);
  // All that the new directory needs is on disk before the header points at it.
  await image.refcountCache.flush();
  await image.file.flush();
  const isEmpty = list.bitmaps.length === 0;
  const before = image.autoclear;
  image.autoclear = isEmpty ? autoclear & ~AUTOCLEAR_BITMAPS : autoclear | AUTOCLEAR_BITMAPS;
  image.bitmaps = list;
  try {
    await rewriteHeader(image);
    await image.file.flush();
  } catch (error) {
    image.bitmaps = old;
    image.autoclear = before;
    throw error;
  }
  metadataOf(image).tablesMoved(image);
  if (old.length > 0) await freeDirectory(image, old, taken);
}

async function writeList(
  image: Qcow2Image,
  bitmaps: readonly StoredBitmap[],
  taken: Set<number>,
): Promise<BitmapList> {
  const { clusterSize } = image.geometry;
  const directory = encodeDirectory(bitmaps);
  const { length } = directory;
  if (length > MAX_BITMAP_DIRECTORY) {
    throw new IoError(errno.EINVAL, { syscall: 'bitmap directory' });
  }
  const count = Math.ceil(length / clusterSize);
  const { first } = await allocateClusters(image, count, count);
  for (let each = 0; each < count; each++) taken.add(first + each);
  const offset = first * clusterSize;
  await writeDirectory(image, directory, offset);
  return { offset, length, bitmaps };
}

async function writeDirectory(image: Qcow2Image, directory: Buffer, offset: number): Promise<void> {
  const buffer = image.allocate(directory.length);
  directory.copy(buffer.bytes);
  await image.file.write(offset, directory.length, buffer, 0);
}

/** What the image claimed to be its directory may be somebody else's clusters. */
async function freeDirectory(
  image: Qcow2Image,
  { offset, length }: BitmapList,
  kept: ReadonlySet<number>,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const first = offset / clusterSize;
  try {
    for (let each = first; each < first + Math.ceil(length / clusterSize); each++) {
      if (!kept.has(each)) await freeClaimed(image, each, 'other');
    }
  } catch (error) {
    image.log.debug(`Clusters of the bitmap directory are lost: ${String(error)}`);
  }
}
