// What the header of an image must say for the image to be opened, and what follows from it. Nothing here reads or writes.

import { QmpError } from '../../../qapi/errors.ts';
import type { BlockNode } from '../../block-node.ts';
import { type Codec, codecOf } from './compression.ts';
import {
  AUTOCLEAR_BITMAPS,
  INCOMPAT_CORRUPT,
  INCOMPAT_DATA_FILE,
  INCOMPAT_EXTL2,
  unknownFeatures,
  unsupportedFeatures,
} from './features.ts';
import {
  checkCompressionType,
  checkRefcountOrder,
  checkTable,
  type Header,
  MAX_BACKING_NAME,
  MAX_L1,
  MAX_REFCOUNT_TABLE,
} from './header.ts';
import { decodeExtensions, type HeaderExtensions, textUpToNul } from './header-extensions.ts';
import type { Geometry } from './image.ts';
import { MAX_SNAPSHOTS, SNAPSHOT_HEADER } from './snapshot.ts';

/** Subclusters of a cluster with extended L2 entries. */
const SUBCLUSTERS = 32;
const SMALLEST_SUBCLUSTER = 512;

/** Throws QmpError when the compression type is unknown, or not what the features say. */
export function knownCodec(header: Header): Codec {
  const { compressionType } = header;
  const codec = codecOf(compressionType);
  if (codec === undefined) {
    throw new QmpError(`qcow2: unknown compression type: ${compressionType}`);
  }
  checkCompressionType(header);
  return codec;
}

/** Sizes that follow from the header. */
export function layoutOf(header: Header): Omit<Geometry, 'sliceSize'> {
  const clusterSize = 2 ** header.clusterBits;
  const extended = (header.incompatible & INCOMPAT_EXTL2) !== 0n;
  const subclusters = extended ? SUBCLUSTERS : 1;
  const l2EntrySize = extended ? 16 : 8;
  const l2Entries = clusterSize / l2EntrySize;
  const refcountBits = 2 ** header.refcountOrder;
  return {
    version: header.version,
    clusterBits: header.clusterBits,
    clusterSize,
    subclusters,
    subclusterSize: clusterSize / subclusters,
    l2EntrySize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder: header.refcountOrder,
    refcountBits,
    refcountsPerBlock: (clusterSize * 8) / refcountBits,
    hasDataFile: (header.incompatible & INCOMPAT_DATA_FILE) !== 0n,
  };
}

/** Throws QmpError for features that nobody here knows, and for a corrupt image that would be written to. */
export function checkFeatures(
  node: Pick<BlockNode, 'readOnly'>,
  header: Header,
  firstCluster: Buffer,
): void {
  const unknown = unknownFeatures(header.incompatible);
  if (unknown !== 0n) throw unsupportedFeatures(unknown, featureTableOf(header, firstCluster));
  if ((header.incompatible & INCOMPAT_CORRUPT) !== 0n && !node.readOnly) {
    throw new QmpError('qcow2: Image is corrupt; cannot be opened read/write');
  }
}

/** Without it where the extensions make no sense: the features are what is complained about. */
function featureTableOf(header: Header, firstCluster: Buffer): Buffer | undefined {
  try {
    return extensionsOf(header, firstCluster).featureTable;
  } catch {
    return undefined;
  }
}

/** Single fields. Throws QmpError. */
export function checkHeader(header: Header): void {
  const { subclusterSize } = layoutOf(header);
  if (subclusterSize < SMALLEST_SUBCLUSTER) {
    throw new QmpError(`Unsupported subcluster size: ${subclusterSize}`);
  }
  checkRefcountOrder(header.refcountOrder);
  if (header.refcountTableClusters === 0) {
    throw new QmpError('Image does not contain a reference count table');
  }
}

/** Where tables are, and how long. Throws QmpError. */
export function checkTables(header: Header, geometry: Omit<Geometry, 'sliceSize'>): void {
  const { clusterSize } = geometry;
  checkTable(
    {
      name: 'Reference count table',
      offset: header.refcountTableOffset,
      entries: header.refcountTableClusters,
      entryLength: clusterSize,
      maxBytes: MAX_REFCOUNT_TABLE,
    },
    clusterSize,
  );
  checkTable(
    {
      name: 'Snapshot table',
      offset: header.snapshotsOffset,
      entries: header.snapshotCount,
      entryLength: SNAPSHOT_HEADER,
      maxBytes: SNAPSHOT_HEADER * MAX_SNAPSHOTS,
    },
    clusterSize,
  );
  checkTable(
    {
      name: 'Active L1 table',
      offset: header.l1TableOffset,
      entries: header.l1Size,
      entryLength: 8,
      maxBytes: MAX_L1,
    },
    clusterSize,
  );
  const needed = Math.ceil(header.size / geometry.l2Coverage);
  const tooBig = 'Image is too big';
  if (needed > 2 ** 31 - 1) throw new QmpError(tooBig);
  if (header.l1Size < needed) throw new QmpError('L1 table is too small');
  // A length that numbers cannot tell apart is too big here, too.
  if (header.size > Number.MAX_SAFE_INTEGER) throw new QmpError(tooBig);
  if (header.cryptMethod !== 0) {
    throw new QmpError(
      header.cryptMethod > 2
        ? `Unsupported encryption method ${header.cryptMethod | 0}`
        : // Nobody can give a key here.
          "Parameter 'encrypt.key-secret' is required for cipher",
    );
  }
}

/** Throws QmpError when they make no sense. */
export function extensionsOf(header: Header, firstCluster: Buffer): HeaderExtensions {
  const end = header.backingFileOffset === 0 ? firstCluster.length : header.backingFileOffset;
  return decodeExtensions(
    firstCluster,
    { start: header.headerLength, end },
    {
      clusterBits: header.clusterBits,
      cryptMethod: header.cryptMethod,
      bitmapsValid: (header.autoclear & AUTOCLEAR_BITMAPS) !== 0n,
    },
  );
}

/** undefined when there is none. Throws QmpError when it is too long. */
export function backingName(header: Header, firstCluster: Buffer): string | undefined {
  const { backingFileOffset: offset, backingFileSize: length } = header;
  if (offset === 0) return undefined;
  if (length > Math.min(MAX_BACKING_NAME, firstCluster.length - offset)) {
    throw new QmpError('Backing file name too long');
  }
  const name = textUpToNul(firstCluster.subarray(offset, offset + length));
  return name === '' ? undefined : name;
}
