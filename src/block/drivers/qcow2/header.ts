// The image's header: bytes to values, with the checks that need nothing but the header. header-update.ts writes single
// fields back, header-rewrite.ts all of it.
//
//   [  0 ..   3]  magic                    [ 60 ..  63]  nb_snapshots
//   [  4 ..   7]  version                  [ 64 ..  71]  snapshots_offset
//   [  8 ..  15]  backing_file_offset      version 3:
//   [ 16 ..  19]  backing_file_size        [ 72 ..  79]  incompatible_features
//   [ 20 ..  23]  cluster_bits             [ 80 ..  87]  compatible_features
//   [ 24 ..  31]  size                     [ 88 ..  95]  autoclear_features
//   [ 32 ..  35]  crypt_method             [ 96 ..  99]  refcount_order
//   [ 36 ..  39]  l1_size                  [100 .. 103]  header_length
//   [ 40 ..  47]  l1_table_offset          [104       ]  compression_type
//   [ 48 ..  55]  refcount_table_offset
//   [ 56 ..  59]  refcount_table_clusters

import { QmpError } from '../../../qapi/errors.ts';
import { INCOMPAT_COMPRESSION } from './features.ts';
import { u64 } from './l1-l2.ts';

/** Bytes of the header that are known. */
export const HEADER_LENGTH = 112;
/** Where fields are that are written one by one. */
export const AT_SIZE = 24;
export const AT_L1_SIZE = 36;
export const AT_REFCOUNT_TABLE = 48;
export const AT_INCOMPATIBLE = 72;
export const AT_AUTOCLEAR = 88;

/** Largest refcount table, bytes. */
export const MAX_REFCOUNT_TABLE = 8 * 1024 * 1024;
/** Largest L1 table, bytes. */
export const MAX_L1 = 32 * 1024 * 1024;

export const MAGIC = 0x514649fb;
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Longest name of a backing file, bytes. */
export const MAX_BACKING_NAME = 1023;
export const V2_LENGTH = 72;
const V3_LENGTH = 104;
const AT_COMPRESSION_TYPE = 104;
const MAX_REFCOUNT_ORDER = 6;

export const COMPRESSION_ZLIB = 0;
export const COMPRESSION_ZSTD = 1;

export interface Header {
  readonly version: 2 | 3;
  readonly backingFileOffset: number;
  readonly backingFileSize: number;
  readonly clusterBits: number;
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  readonly refcountOrder: number;
  readonly headerLength: number;
  readonly compressionType: number;
}

/** Decodes HEADER_LENGTH bytes. Throws QmpError; the checks are those before any other byte of the image is looked at. */
export function decodeHeader(view: DataView): Header {
  if (view.getUint32(0) !== MAGIC) throw new QmpError('Image is not in qcow2 format');
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) throw new QmpError(`Unsupported qcow2 version ${version}`);
  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw new QmpError(`Unsupported cluster size: 2^${clusterBits}`);
  }
  const headerLength = version === 2 ? V2_LENGTH : view.getUint32(100);
  if (version === 3 && headerLength < V3_LENGTH) throw new QmpError('qcow2 header too short');
  if (headerLength > 2 ** clusterBits) throw new QmpError('qcow2 header exceeds cluster size');
  const backingFileOffset = u64(view, 8);
  if (backingFileOffset > 2 ** clusterBits) throw new QmpError('Invalid backing file offset');
  const v3 = version === 3;
  return {
    version,
    backingFileOffset,
    backingFileSize: view.getUint32(16),
    clusterBits,
    size: u64(view, AT_SIZE),
    cryptMethod: view.getUint32(32),
    l1Size: view.getUint32(AT_L1_SIZE),
    l1TableOffset: u64(view, 40),
    refcountTableOffset: u64(view, AT_REFCOUNT_TABLE),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: u64(view, 64),
    incompatible: v3 ? view.getBigUint64(AT_INCOMPATIBLE) : 0n,
    compatible: v3 ? view.getBigUint64(80) : 0n,
    autoclear: v3 ? view.getBigUint64(AT_AUTOCLEAR) : 0n,
    refcountOrder: v3 ? view.getUint32(96) : 4,
    headerLength,
    compressionType:
      headerLength > AT_COMPRESSION_TYPE ? view.getUint8(AT_COMPRESSION_TYPE) : COMPRESSION_ZLIB,
  };
}

/** Throws QmpError when the compression type is not what the features say. */
export function checkCompressionType(header: Header): void {
  const { compressionType, incompatible } = header;
  const flagged = (incompatible & INCOMPAT_COMPRESSION) !== 0n;
  if (compressionType === COMPRESSION_ZLIB && flagged) {
    throw new QmpError('qcow2: Compression type incompatible feature bit must not be set');
  }
  if (compressionType !== COMPRESSION_ZLIB && !flagged) {
    throw new QmpError('qcow2: Compression type incompatible feature bit must be set');
  }
}

/** Throws QmpError unless the width of refcounts is one of those that exist. */
export function checkRefcountOrder(order: number): void {
  if (order > MAX_REFCOUNT_ORDER) {
    throw new QmpError('Reference count entry width too large; may not exceed 64 bits');
  }
}

/** A table of the image as its header gives it: bytes, entries, and the most that it may have. */
export interface TablePlace {
  readonly name: string;
  readonly offset: number;
  readonly entries: number;
  readonly entryLength: number;
  readonly maxBytes: number;
}

/** Throws QmpError when a table is larger than it may be, or not where a table can be. */
export function checkTable(place: TablePlace, clusterSize: number): void {
  const { name, offset, entries, entryLength, maxBytes } = place;
  if (entries > Math.floor(maxBytes / entryLength)) throw new QmpError(`${name} too large`);
  if (offset + entries * entryLength >= 2 ** 63 || offset % clusterSize !== 0) {
    throw new QmpError(`${name} offset invalid`);
  }
}
