// The log that Linux' device mapper target log-writes keeps, and blklogwrites: a superblock in the first sector, then entries of
// a sector each, with the data of a write behind it. All numbers are little-endian; sectors are those of the log.

/** What an entry is besides a write; bits. The names are the kernel's. */
export const LOG_FLUSH_FLAG = 1;
export const LOG_FUA_FLAG = 2;
export const LOG_DISCARD_FLAG = 4;
export const LOG_MARK_FLAG = 8;
export const LOG_FLAG_MASK = LOG_FLUSH_FLAG | LOG_FUA_FLAG | LOG_DISCARD_FLAG | LOG_MARK_FLAG;

export const WRITE_LOG_MAGIC = 0x6a_73_66_77_73_68_72n;
export const WRITE_LOG_VERSION = 1n;
/** Bytes. */
export const SUPERBLOCK_SIZE = 28;
export const ENTRY_SIZE = 32;
const LARGEST_SECTOR = 2 ** 23;

/** As it is read: nothing of it is checked. */
export interface Superblock {
  readonly magic: bigint;
  readonly version: bigint;
  readonly entries: bigint;
  /** Bytes. */
  readonly sectorSize: number;
}

export interface LogEntry {
  readonly sector: bigint;
  readonly sectors: bigint;
  readonly flags: bigint;
}

export function isSectorSize(size: number): boolean {
  return size >= ENTRY_SIZE && size <= LARGEST_SECTOR && Number.isInteger(Math.log2(size));
}

/**
 * Fills a whole sector.
 *   [ 0 ..  7]  magic       WRITE_LOG_MAGIC
 *   [ 8 .. 15]  version     WRITE_LOG_VERSION
 *   [16 .. 23]  nr_entries
 *   [24 .. 27]  sectorsize  bytes
 */
export function encodeSuperblock(
  into: Buffer,
  { entries, sectorSize }: { readonly entries: number; readonly sectorSize: number },
): void {
  into.fill(0);
  into.writeBigUInt64LE(WRITE_LOG_MAGIC, 0);
  into.writeBigUInt64LE(WRITE_LOG_VERSION, 8);
  writeU64(into, entries, 16);
  into.writeUInt32LE(sectorSize, 24);
}

export function decodeSuperblock(from: Buffer): Superblock {
  return {
    magic: from.readBigUInt64LE(0),
    version: from.readBigUInt64LE(8),
    entries: from.readBigUInt64LE(16),
    sectorSize: from.readUInt32LE(24),
  };
}

/**
 * Fills a whole sector.
 *   [ 0 ..  7]  sector
 *   [ 8 .. 15]  nr_sectors
 *   [16 .. 23]  flags       LOG_*_FLAG
 *   [24 .. 31]  data_len    of a mark's text; 0
 */
export function encodeEntry(
  into: Buffer,
  entry: { readonly sector: number; readonly sectors: number; readonly flags: number },
): void {
  into.fill(0);
  writeU64(into, entry.sector, 0);
  writeU64(into, entry.sectors, 8);
  writeU64(into, entry.flags, 16);
}

export function decodeEntry(from: Buffer): LogEntry {
  return {
    sector: from.readBigUInt64LE(0),
    sectors: from.readBigUInt64LE(8),
    flags: from.readBigUInt64LE(16),
  };
}

/** A safe integer. */
function writeU64(into: Buffer, value: number, at: number): void {
  into.writeUInt32LE(value % 2 ** 32, at);
  into.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
