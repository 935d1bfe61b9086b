// What an image shall be like that is about to be made: options checked in the reference's order, and the header that says so.

import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevCreateOptionsQcow2, PreallocMode } from '../../../qapi/generated/types.ts';
import type { OverlayImage } from '../../block-driver.ts';
import { SECTOR } from '../../block-node.ts';
import { codecOf } from './compression.ts';
import {
  AUTOCLEAR_DATA_FILE_RAW,
  COMPAT_LAZY_REFCOUNTS,
  INCOMPAT_COMPRESSION,
  INCOMPAT_DATA_FILE,
  INCOMPAT_EXTL2,
} from './features.ts';
import {
  COMPRESSION_ZLIB,
  COMPRESSION_ZSTD,
  HEADER_LENGTH,
  MAGIC,
  MAX_CLUSTER_BITS,
  MIN_CLUSTER_BITS,
} from './header.ts';
import { putU64 } from './l1-l2.ts';

const DEFAULT_CLUSTER_SIZE = 65536;
const DEFAULT_REFCOUNT_BITS = 16;
const SMALLEST_EXTENDED = 2 ** MIN_CLUSTER_BITS * 32;

export interface NewImage {
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
  readonly lazyRefcounts: boolean;
  readonly hasDataFile: boolean;
  readonly dataFileRaw: boolean;
  readonly preallocation: PreallocMode;
  readonly compressionType: number;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
}

/** What QEMU's tools print of an image that has defaults besides. */
export function describeOverlay({ size, backingFile, backingFormat }: OverlayImage): string {
  // As in the options of a command line, where a comma would be the end.
  const text = (value: string): string => value.replaceAll(',', ',,');
  return [
    `cluster_size=${DEFAULT_CLUSTER_SIZE} extended_l2=off compression_type=zlib size=${size}`,
    `backing_file=${text(backingFile)} backing_fmt=${text(backingFormat)}`,
    `lazy_refcounts=off refcount_bits=${DEFAULT_REFCOUNT_BITS}`,
  ].join(' ');
}

/** All that is checked before the data file is opened. Throws QmpError. */
export function checkLayout(options: BlockdevCreateOptionsQcow2): NewImage {
  const { size, preallocation = 'off', 'backing-file': backingFile } = options;
  const version = options.version === 'v2' ? 2 : 3;
  const clusterSize = options['cluster-size'] ?? DEFAULT_CLUSTER_SIZE;
  const extendedL2 = options['extended-l2'] === true;
  const refcountBits = options['refcount-bits'] ?? DEFAULT_REFCOUNT_BITS;
  const dataFileRaw = options['data-file-raw'] === true;
  const hasDataFile = options['data-file'] !== undefined;
  const wish: NewImage = {
    size,
    version,
    clusterSize,
    refcountBits,
    extendedL2,
    lazyRefcounts: options['lazy-refcounts'] === true,
    hasDataFile,
    dataFileRaw,
    // Without tables the data file alone would show more than the image does.
    preallocation: dataFileRaw && preallocation === 'off' ? 'metadata' : preallocation,
    compressionType: options['compression-type'] === 'zstd' ? COMPRESSION_ZSTD : COMPRESSION_ZLIB,
    backingFile,
    backingFormat: options['backing-fmt'],
  };
  if (size % SECTOR !== 0) refuse(`Image size must be a multiple of ${SECTOR} bytes`);
  if (extendedL2 && version < 3) refuseOldVersion('Extended L2 entries are only supported');
  checkClusterSize(wish);
  if (backingFile !== undefined && preallocation !== 'off' && !extendedL2) {
    refuse('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  if (options['backing-fmt'] !== undefined && backingFile === undefined) {
    refuse('Backing format cannot be used without backing file');
  }
  if (wish.lazyRefcounts && version < 3) refuseOldVersion('Lazy refcounts only supported');
  checkRefcountBits(wish);
  if (dataFileRaw && !hasDataFile) refuse('data-file-raw requires data-file');
  if (dataFileRaw && backingFile !== undefined) {
    refuse('Backing file and data-file-raw cannot be used at the same time');
  }
  if (hasDataFile && version < 3) refuseOldVersion('External data files are only supported');
  return wish;
}

/** What is checked after that. Throws QmpError. */
export function checkCompressionType({ compressionType, version }: NewImage): void {
  if (compressionType === COMPRESSION_ZLIB) return;
  if (version < 3) refuseOldVersion('Non-zlib compression type is only supported');
  if (codecOf(compressionType) === undefined) refuse('Unknown compression type');
}

/** The header of an image without a disk, whose refcount table is the second cluster. */
export function encodeNewHeader(wish: NewImage, view: DataView): void {
  let incompatible = 0n;
  if (wish.hasDataFile) incompatible |= INCOMPAT_DATA_FILE;
  if (wish.compressionType !== COMPRESSION_ZLIB) incompatible |= INCOMPAT_COMPRESSION;
  if (wish.extendedL2) incompatible |= INCOMPAT_EXTL2;
  view.setUint32(0, MAGIC);
  view.setUint32(4, wish.version);
  view.setUint32(20, Math.log2(wish.clusterSize));
  putU64(view, 48, wish.clusterSize);
  view.setUint32(56, 1);
  view.setBigUint64(72, incompatible);
  view.setBigUint64(80, wish.lazyRefcounts ? COMPAT_LAZY_REFCOUNTS : 0n);
  view.setBigUint64(88, wish.dataFileRaw ? AUTOCLEAR_DATA_FILE_RAW : 0n);
  view.setUint32(96, Math.log2(wish.refcountBits));
  view.setUint32(100, HEADER_LENGTH);
  view.setUint8(104, wish.compressionType);
}

function checkClusterSize({ clusterSize, extendedL2 }: NewImage): void {
  const bits = Math.log2(clusterSize);
  if (!Number.isInteger(bits) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS) {
    const [least, mostKib] = [2 ** MIN_CLUSTER_BITS, 2 ** (MAX_CLUSTER_BITS - 10)];
    refuse(`Cluster size must be a power of two between ${least} and ${mostKib}k`);
  }
  if (extendedL2 && clusterSize < SMALLEST_EXTENDED) {
    refuse(
      `Extended L2 entries are only supported with cluster sizes of at least ${SMALLEST_EXTENDED} bytes`,
    );
  }
}

function checkRefcountBits({ refcountBits, version }: NewImage): void {
  if (!Number.isInteger(Math.log2(refcountBits)) || refcountBits > 64) {
    refuse('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version < 3 && refcountBits !== DEFAULT_REFCOUNT_BITS) {
    refuse(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    );
  }
}

function refuseOldVersion(what: string): never {
  refuse(`${what} with compatibility level 1.1 and above (use version=v3 or greater)`);
}

function refuse(message: string): never {
  throw new QmpError(message);
}
