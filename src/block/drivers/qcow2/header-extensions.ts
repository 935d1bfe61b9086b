// Header extensions: the list between the header and the backing file's name. Those that nobody knows are kept as they are.
//
//   [0 .. 3]  type    [4 .. 7]  length    [8 ..]  data, padded to 8 bytes

import { QmpError } from '../../../qapi/errors.ts';

export const EXT_END = 0;
export const EXT_BACKING_FORMAT = 0xe2792aca;
export const EXT_FEATURE_TABLE = 0x6803f857;
const EXT_CRYPTO_HEADER = 0x0537be77;
export const EXT_BITMAPS = 0x23852875;
export const EXT_DATA_FILE = 0x44415441;

/** Bytes, with a terminating NUL in the reference. */
const MAX_FORMAT_NAME = 16;

const BITMAPS_LENGTH = 24;
export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY = 1024 * MAX_BITMAPS;
const CRYPT_LUKS = 2;

export interface HeaderExtension {
  readonly type: number;
  readonly content: Buffer;
}

/** The bitmaps extension: number (4 bytes), reserved (4), directory size (8), directory offset (8). */
export interface BitmapsExtension {
  readonly count: number;
  readonly directoryOffset: number;
  /** Bytes. */
  readonly directoryLength: number;
}

export interface HeaderExtensions {
  readonly backingFormat: string | undefined;
  readonly featureTable: Buffer | undefined;
  readonly dataFile: string | undefined;
  /** Where the bitmaps are, when they are to be believed. */
  readonly bitmaps: BitmapsExtension | undefined;
  /** There are bitmaps that are not. */
  readonly hasStaleBitmaps: boolean;
  /** Those that nobody here knows, as they are. */
  readonly unknown: readonly HeaderExtension[];
}

/**
 * Decodes the extensions in `bytes`, the image from its start, between `start` and `end`. Throws QmpError.
 */
export function decodeExtensions(
  bytes: Buffer,
  area: { start: number; end: number },
  header: { clusterBits: number; cryptMethod: number; bitmapsValid: boolean },
): HeaderExtensions {
  let backingFormat: string | undefined;
  let featureTable: Buffer | undefined;
  let dataFile: string | undefined;
  let bitmaps: BitmapsExtension | undefined;
  let hasStaleBitmaps = false;
  const unknown: HeaderExtension[] = [];
  for (let at = area.start; at < area.end; ) {
    if (at + 8 > area.end) throw new QmpError('Header extension too large');
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    at += 8;
    if (length > area.end - at) throw new QmpError('Header extension too large');
    if (type === EXT_END) break;
    const content = bytes.subarray(at, at + length);
    if (type === EXT_BACKING_FORMAT) {
      if (length >= MAX_FORMAT_NAME) {
        throw new QmpError(
          `ERROR: ext_backing_format: len=${length} too large (>=${MAX_FORMAT_NAME})`,
        );
      }
      backingFormat = textUpToNul(content) || undefined;
    } else if (type === EXT_FEATURE_TABLE) {
      featureTable = content;
    } else if (type === EXT_CRYPTO_HEADER) {
      checkCryptoHeader(header.cryptMethod);
    } else if (type === EXT_BITMAPS) {
      bitmaps = decodeBitmaps(content, header);
      hasStaleBitmaps = bitmaps === undefined;
    } else if (type === EXT_DATA_FILE) {
      dataFile = textUpToNul(content);
    } else {
      unknown.push({ type, content: Buffer.from(content) });
    }
    at += Math.ceil(length / 8) * 8;
  }
  return { backingFormat, featureTable, dataFile, bitmaps, hasStaleBitmaps, unknown };
}

/** What a header keeps of the name of a format: `copy-before-write` is too long for it. */
export function keptFormatName(format: string): string {
  return format.slice(0, MAX_FORMAT_NAME - 1);
}

export function textUpToNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.subarray(0, end === -1 ? bytes.length : end).toString();
}

function checkCryptoHeader(cryptMethod: number): void {
  if (cryptMethod !== CRYPT_LUKS) {
    throw new QmpError('CRYPTO header extension only expected with LUKS encryption method');
  }
}

/** Undefined where they are not to be believed. */
function decodeBitmaps(
  content: Buffer,
  { clusterBits, bitmapsValid }: { clusterBits: number; bitmapsValid: boolean },
): BitmapsExtension | undefined {
  if (content.length !== BITMAPS_LENGTH) {
    throw new QmpError('bitmaps_ext: Invalid extension length');
  }
  if (!bitmapsValid) return undefined;
  if (content.readUInt32BE(4) !== 0) {
    throw new QmpError('bitmaps_ext: Reserved field is not zero');
  }
  const count = content.readUInt32BE(0);
  if (count > MAX_BITMAPS) {
    throw new QmpError(
      `bitmaps_ext: Image has ${count} bitmaps, exceeding the QEMU supported maximum of ${MAX_BITMAPS}`,
    );
  }
  if (count === 0) throw new QmpError('found bitmaps extension with zero bitmaps');
  if ((content.readUInt32BE(20) & (2 ** clusterBits - 1)) !== 0) {
    throw new QmpError('bitmaps_ext: invalid bitmap directory offset');
  }
  const size = content.readBigUInt64BE(8);
  if (size > BigInt(MAX_BITMAP_DIRECTORY)) {
    throw new QmpError(
      `bitmaps_ext: bitmap directory size (${size}) exceeds the maximum supported size (${MAX_BITMAP_DIRECTORY})`,
    );
  }
  return {
    count,
    directoryOffset: Number(content.readBigUInt64BE(16)),
    directoryLength: Number(size),
  };
}

export function encodeBitmaps({
  count,
  directoryOffset,
  directoryLength,
}: BitmapsExtension): Buffer {
  const content = Buffer.alloc(BITMAPS_LENGTH);
  content.writeUInt32BE(count, 0);
  content.writeBigUInt64BE(BigInt(directoryLength), 8);
  content.writeBigUInt64BE(BigInt(directoryOffset), 16);
  return content;
}
