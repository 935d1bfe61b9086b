// The feature bits of the header, and what is said of those that nobody here knows.

import { QmpError } from '../../../qapi/errors.ts';

export const INCOMPAT_DIRTY = 1n;
export const INCOMPAT_CORRUPT = 2n;
export const INCOMPAT_DATA_FILE = 4n;
export const INCOMPAT_COMPRESSION = 8n;
export const INCOMPAT_EXTL2 = 16n;
const INCOMPAT_KNOWN =
  INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_DATA_FILE | INCOMPAT_COMPRESSION | INCOMPAT_EXTL2;

export const COMPAT_LAZY_REFCOUNTS = 1n;

export const AUTOCLEAR_BITMAPS = 1n;
export const AUTOCLEAR_DATA_FILE_RAW = 2n;
/** Those that stay when somebody writes who knows what we know. */
export const AUTOCLEAR_KNOWN = AUTOCLEAR_DATA_FILE_RAW | AUTOCLEAR_BITMAPS;

/** A row of the feature name table: type, bit, name. */
const FEATURE_NAME_LENGTH = 48;
const SHOWN_NAME = 46;
const INCOMPATIBLE = 0;
const COMPATIBLE = 1;
const AUTOCLEAR = 2;

const featureNames = [
  [INCOMPATIBLE, 0, 'dirty bit'],
  [INCOMPATIBLE, 1, 'corrupt bit'],
  [INCOMPATIBLE, 2, 'external data file'],
  [INCOMPATIBLE, 3, 'compression type'],
  [INCOMPATIBLE, 4, 'extended L2 entries'],
  [COMPATIBLE, 0, 'lazy refcounts'],
  [AUTOCLEAR, 0, 'bitmaps'],
  [AUTOCLEAR, 1, 'raw external data'],
] as const;

/** The feature name table that we write. */
export function featureNameTable(): Buffer {
  const table = Buffer.alloc(featureNames.length * FEATURE_NAME_LENGTH);
  for (const [row, [type, bit, name]] of featureNames.entries()) {
    const at = row * FEATURE_NAME_LENGTH;
    table.writeUInt8(type, at);
    table.writeUInt8(bit, at + 1);
    table.write(name, at + 2);
  }
  return table;
}

/** Incompatible features that nobody here knows. */
export function unknownFeatures(incompatible: bigint): bigint {
  return incompatible & ~INCOMPAT_KNOWN;
}

/** What is said of features that nobody here knows, by the names in the image's feature name table. */
export function unsupportedFeatures(unknown: bigint, table: Buffer | undefined): QmpError {
  const names: string[] = [];
  let rest = unknown;
  const rows = table ?? Buffer.alloc(0);
  for (let at = 0; at + FEATURE_NAME_LENGTH <= rows.length; at += FEATURE_NAME_LENGTH) {
    const type = rows.readUInt8(at);
    const bit = 1n << (BigInt(rows.readUInt8(at + 1)) & 63n);
    const field = rows.subarray(at + 2, at + FEATURE_NAME_LENGTH);
    const end = field.indexOf(0);
    const name = field.subarray(0, end === -1 ? SHOWN_NAME : end).toString();
    if (name === '') break;
    if (type === INCOMPATIBLE && (rest & bit) !== 0n) {
      names.push(name);
      rest &= ~bit;
    }
  }
  if (rest !== 0n) names.push(`Unknown incompatible feature: ${rest.toString(16)}`);
  return new QmpError(`Unsupported qcow2 feature(s): ${names.join(', ')}`);
}
