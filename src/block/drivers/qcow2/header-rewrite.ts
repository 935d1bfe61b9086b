// The first cluster as a whole: header, extensions, the backing file's name. Written anew when one of them changes that has no
// fixed length; what nobody here knows is written as it was found.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { featureNameTable } from './features.ts';
import { HEADER_LENGTH, MAGIC, V2_LENGTH } from './header.ts';
import {
  EXT_BACKING_FORMAT,
  EXT_BITMAPS,
  EXT_DATA_FILE,
  EXT_END,
  EXT_FEATURE_TABLE,
  encodeBitmaps,
  type HeaderExtension,
} from './header-extensions.ts';
import type { Qcow2Image } from './image.ts';
import { putU64 } from './l1-l2.ts';

/** In smaller clusters the names of features would leave no room for the backing file's name. */
const LARGEST_WITHOUT_NAMES = 4096;

/**
 * Writes the first cluster from what the image is now; the lock is held. Throws IoError, ENOSPC when it does not fit: then
 * nothing was written. It is not flushed.
 */
export async function rewriteHeader(image: Qcow2Image): Promise<void> {
  const { clusterSize } = image.geometry;
  const cluster = image.allocate(clusterSize);
  encodeHeader(image, cluster.view);
  let at = image.geometry.version < 3 ? V2_LENGTH : HEADER_LENGTH;
  const room = (length: number): number => {
    if (at + length > clusterSize) throw new IoError(errno.ENOSPC, { syscall: 'header' });
    const start = at;
    at += length;
    return start;
  };
  image.unknownFields.copy(cluster.bytes, room(image.unknownFields.length));
  for (const { type, content } of extensionsOf(image)) {
    const start = room(8 + Math.ceil(content.length / 8) * 8);
    cluster.view.setUint32(start, type);
    cluster.view.setUint32(start + 4, content.length);
    content.copy(cluster.bytes, start + 8);
  }
  if (image.backingFilename !== undefined) {
    const name = Buffer.from(image.backingFilename);
    const start = room(name.length);
    name.copy(cluster.bytes, start);
    putU64(cluster.view, 8, start);
    cluster.view.setUint32(16, name.length);
  }
  await image.file.write(0, clusterSize, cluster, 0);
}

function encodeHeader(image: Qcow2Image, view: DataView): void {
  const { geometry } = image;
  view.setUint32(0, MAGIC);
  view.setUint32(4, geometry.version);
  view.setUint32(20, geometry.clusterBits);
  putU64(view, 24, image.size);
  view.setUint32(36, image.l1Entries);
  putU64(view, 40, image.l1Offset);
  putU64(view, 48, image.refcountTableOffset);
  view.setUint32(56, (image.refcountTableEntries * 8) / geometry.clusterSize);
  view.setUint32(60, image.snapshots.length);
  putU64(view, 64, image.snapshotsOffset);
  if (geometry.version < 3) return;
  view.setBigUint64(72, image.incompatible);
  view.setBigUint64(80, image.compatible);
  view.setBigUint64(88, image.autoclear);
  view.setUint32(96, geometry.refcountOrder);
  view.setUint32(100, HEADER_LENGTH + image.unknownFields.length);
  view.setUint8(104, image.compressionType);
}

function extensionsOf(image: Qcow2Image): HeaderExtension[] {
  const { version, clusterSize, hasDataFile } = image.geometry;
  const all: HeaderExtension[] = [];
  if (image.backingFormat !== undefined) {
    all.push({ type: EXT_BACKING_FORMAT, content: Buffer.from(image.backingFormat) });
  }
  if (hasDataFile && image.dataFilename !== undefined) {
    all.push({ type: EXT_DATA_FILE, content: Buffer.from(image.dataFilename) });
  }
  if (version >= 3 && clusterSize > LARGEST_WITHOUT_NAMES) {
    all.push({ type: EXT_FEATURE_TABLE, content: featureNameTable() });
  }
  const { bitmaps, offset, length } = image.bitmaps;
  if (bitmaps.length > 0) {
    const extension = { count: bitmaps.length, directoryOffset: offset, directoryLength: length };
    all.push({ type: EXT_BITMAPS, content: encodeBitmaps(extension) });
  }
  all.push(...image.unknownExtensions, { type: EXT_END, content: Buffer.alloc(0) });
  return all;
}
