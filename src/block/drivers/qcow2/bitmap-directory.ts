// The directory of bitmaps, and the tables that it points at: bytes to values and back, with the checks that need nothing else.
// All numbers are big-endian.
//
//   [ 0 ..  7]  bitmap_table_offset      [16]        type: 1, dirty tracking
//   [ 8 .. 11]  bitmap_table_size        [17]        granularity_bits
//   [12 .. 15]  flags                    [18 .. 19]  name_size
//                                        [20 .. 23]  extra_data_size
//   extra data, name; padded to 8 bytes
//
//   table: bit 0 all ones (without an offset), bits 9..55 offset of a cluster of bits

import { QmpError } from '../../../qapi/errors.ts';

/** Entries of a table, and bytes of the bits of one bitmap. */
const MAX_TABLE = 0x8000000;
export const MAX_BITMAP_BYTES = 0x20000000;
export const MIN_GRANULARITY_BITS = 9;
export const MAX_GRANULARITY_BITS = 31;
/** Bytes. */
export const MAX_BITMAP_NAME = 1023;
export const TABLE_ENTRY = 8;

const ENTRY_HEADER = 24;
const IN_USE = 1;
const AUTO = 2;
const DIRTY_TRACKING = 1;

const ALL_ONES = 1;
const RESERVED_HIGH = 0xff000000;
const RESERVED_LOW = 0x1fe;
const OFFSET_LOW = 0xfffffe00;
const WORD = 2 ** 32;

/** A bitmap as the directory describes it. */
export interface StoredBitmap {
  readonly name: string;
  /** The name as it is in the image: it may be no text. */
  readonly nameBytes: Buffer;
  readonly granularityBits: number;
  /** May be anywhere. */
  readonly tableOffset: bigint;
  /** Entries. */
  readonly tableSize: number;
  /** Its content is out of date: somebody has it in memory, or did not store it. */
  readonly inUse: boolean;
  /** It notes writes. */
  readonly auto: boolean;
}

export interface DirectoryLimits {
  /** Bitmaps, as the header says. */
  readonly count: number;
  readonly clusterSize: number;
  /** Of the disk, bytes. */
  readonly size: number;
}

/** Decodes a whole directory. Throws QmpError with the reference's text. */
export function decodeDirectory(directory: Buffer, limits: DirectoryLimits): StoredBitmap[] {
  const bitmaps: StoredBitmap[] = [];
  let at = 0;
  while (at < directory.length) {
    if (at + ENTRY_HEADER > directory.length) throw new QmpError('Broken bitmap directory');
    if (bitmaps.length >= limits.count) {
      throw new QmpError('More bitmaps found than specified in header extension');
    }
    const nameLength = directory.readUInt16BE(at + 18);
    const extraLength = directory.readUInt32BE(at + 20);
    // A signed number of 32 bits in the reference.
    const length = entryLength((nameLength + extraLength) | 0);
    if (at + length > directory.length) throw new QmpError('Broken bitmap directory');
    if (extraLength !== 0) throw new QmpError('Bitmap extra data is not supported');
    const nameAt = at + ENTRY_HEADER;
    const bitmap = decodeEntry(
      directory.subarray(at, nameAt),
      directory.subarray(nameAt, nameAt + nameLength),
    );
    const isKnown = directory.readUInt8(at + 16) === DIRTY_TRACKING;
    const flags = directory.readUInt32BE(at + 12);
    if (!isKnown || (flags & ~(IN_USE | AUTO)) !== 0 || !isPossible(bitmap, nameLength, limits)) {
      throw new QmpError(`Bitmap '${bitmap.name}' doesn't satisfy the constraints`);
    }
    bitmaps.push(bitmap);
    at += length;
  }
  if (bitmaps.length !== limits.count) {
    throw new QmpError('Less bitmaps found than specified in header extension');
  }
  return bitmaps;
}

function decodeEntry(entry: Buffer, nameField: Buffer): StoredBitmap {
  const end = nameField.indexOf(0);
  const nameBytes = Buffer.from(end === -1 ? nameField : nameField.subarray(0, end));
  const flags = entry.readUInt32BE(12);
  return {
    name: nameBytes.toString(),
    nameBytes,
    granularityBits: entry.readUInt8(17),
    tableOffset: entry.readBigUInt64BE(0),
    tableSize: entry.readUInt32BE(8),
    inUse: (flags & IN_USE) !== 0,
    auto: (flags & AUTO) !== 0,
  };
}

/** What is not in use has room for all of the disk; what is may not have kept up with a change of its length. */
function isPossible(
  bitmap: StoredBitmap,
  nameLength: number,
  { clusterSize, size }: DirectoryLimits,
): boolean {
  const { granularityBits, tableOffset, tableSize, inUse } = bitmap;
  const bytes = tableSize * clusterSize;
  return (
    tableSize > 0 &&
    tableSize <= MAX_TABLE &&
    tableOffset !== 0n &&
    tableOffset % BigInt(clusterSize) === 0n &&
    granularityBits >= MIN_GRANULARITY_BITS &&
    granularityBits <= MAX_GRANULARITY_BITS &&
    nameLength <= MAX_BITMAP_NAME &&
    bytes <= MAX_BITMAP_BYTES &&
    (inUse || size <= bytes * 8 * 2 ** granularityBits)
  );
}

export function encodeDirectory(bitmaps: readonly StoredBitmap[]): Buffer {
  const length = bitmaps.reduce((sum, { nameBytes }) => sum + entryLength(nameBytes.length), 0);
  const directory = Buffer.alloc(length);
  let at = 0;
  for (const bitmap of bitmaps) {
    const { nameBytes } = bitmap;
    directory.writeBigUInt64BE(bitmap.tableOffset, at);
    directory.writeUInt32BE(bitmap.tableSize, at + 8);
    directory.writeUInt32BE((bitmap.inUse ? IN_USE : 0) | (bitmap.auto ? AUTO : 0), at + 12);
    directory.writeUInt8(DIRTY_TRACKING, at + 16);
    directory.writeUInt8(bitmap.granularityBits, at + 17);
    directory.writeUInt16BE(nameBytes.length, at + 18);
    nameBytes.copy(directory, at + ENTRY_HEADER);
    at += entryLength(nameBytes.length);
  }
  return directory;
}

/** Bytes of an entry in the directory; `nameLength` in bytes. */
export function entryLength(nameLength: number): number {
  return Math.ceil((ENTRY_HEADER + nameLength) / 8) * 8;
}

/** What a table says of a cluster's worth of bits: where they are, or that all are alike. */
export type TableEntry = number | 'zeroes' | 'ones';

/** Undefined when it cannot be. */
export function decodeTableEntry(
  view: DataView,
  at: number,
  clusterSize: number,
): TableEntry | undefined {
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0) return undefined;
  const offset = high * WORD + ((low & OFFSET_LOW) >>> 0);
  const ones = (low & ALL_ONES) !== 0;
  if (offset === 0) return ones ? 'ones' : 'zeroes';
  return ones || offset % clusterSize !== 0 ? undefined : offset;
}

export function encodeTableEntry(view: DataView, at: number, entry: TableEntry): void {
  const offset = typeof entry === 'number' ? entry : 0;
  view.setUint32(at, Math.floor(offset / WORD));
  view.setUint32(at + 4, (offset % WORD) + (entry === 'ones' ? ALL_ONES : 0));
}

/** True when every entry of a table can be. */
export function isTable(view: DataView, entries: number, clusterSize: number): boolean {
  for (let index = 0; index < entries; index++) {
    if (decodeTableEntry(view, index * TABLE_ENTRY, clusterSize) === undefined) return false;
  }
  return true;
}
