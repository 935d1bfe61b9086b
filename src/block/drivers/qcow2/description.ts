// What is told of an image in query-named-block-nodes.

import { QmpError } from '../../../qapi/errors.ts';
import type { ImageInfoSpecificQCow2, Qcow2BitmapInfo } from '../../../qapi/generated/types.ts';
import type { ImageDescription, ImageState } from '../../block-driver.ts';
import type { StoredBitmap } from './bitmap-directory.ts';
import { fullBackingFilename } from './children.ts';
import {
  AUTOCLEAR_DATA_FILE_RAW,
  COMPAT_LAZY_REFCOUNTS,
  INCOMPAT_CORRUPT,
  INCOMPAT_DIRTY,
} from './features.ts';
import { COMPRESSION_ZSTD } from './header.ts';
import type { Qcow2Image } from './image.ts';

export function imageState(image: Qcow2Image): ImageState {
  return {
    clusterSize: image.geometry.clusterSize,
    isDirty: (image.incompatible & INCOMPAT_DIRTY) !== 0n,
  };
}

export function describeImage(image: Qcow2Image): ImageDescription {
  const { backingFilename, backingFormat } = image;
  const full = fullName(image);
  return {
    ...(backingFilename === undefined ? {} : { 'backing-filename': backingFilename }),
    ...(full === undefined ? {} : { 'full-backing-filename': full }),
    ...(backingFilename === undefined || backingFormat === undefined
      ? {}
      : { 'backing-filename-format': backingFormat }),
    'format-specific': { type: 'qcow2', data: specific(image) },
  };
}

function specific(image: Qcow2Image): ImageInfoSpecificQCow2 {
  const { version, refcountBits, subclusters, hasDataFile } = image.geometry;
  const always = {
    'refcount-bits': refcountBits,
    'compression-type': image.compressionType === COMPRESSION_ZSTD ? 'zstd' : 'zlib',
  } as const;
  if (version === 2) return { compat: '0.10', ...always };
  return {
    compat: '1.1',
    ...always,
    'lazy-refcounts': (image.compatible & COMPAT_LAZY_REFCOUNTS) !== 0n,
    corrupt: (image.incompatible & INCOMPAT_CORRUPT) !== 0n,
    'extended-l2': subclusters > 1,
    ...(image.bitmaps.bitmaps.length === 0
      ? {}
      : { bitmaps: image.bitmaps.bitmaps.map(bitmapInfo) }),
    ...(image.dataFilename === undefined ? {} : { 'data-file': image.dataFilename }),
    ...(hasDataFile ? { 'data-file-raw': (image.autoclear & AUTOCLEAR_DATA_FILE_RAW) !== 0n } : {}),
  };
}

function bitmapInfo({ name, granularityBits, inUse, auto }: StoredBitmap): Qcow2BitmapInfo {
  return {
    name,
    granularity: 2 ** granularityBits,
    flags: [...(inUse ? (['in-use'] as const) : []), ...(auto ? (['auto'] as const) : [])],
  };
}

function fullName(image: Qcow2Image): string | undefined {
  try {
    return fullBackingFilename(image);
  } catch (error) {
    if (error instanceof QmpError) return undefined;
    throw error;
  }
}
