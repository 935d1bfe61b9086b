// A small qcow2 image, made without anybody's tools: 64 KiB clusters, version 3, one L2 table.

const CLUSTER = 65536;
const DATA_AT = 5;

export interface SmallBitmap {
  readonly name: string;
  /** IN_USE 1, AUTO 2; AUTO when absent. */
  readonly flags?: number;
  /** Bits of an offset in a granule; 16 when absent. */
  readonly granularityBits?: number;
  /** The first bytes of its bits; none dirty when absent. */
  readonly bits?: readonly number[];
}

export interface SmallQcow2 {
  /** Of the disk, bytes. */
  readonly size?: number;
  /** The first clusters of the disk hold these bytes each; the rest is unallocated. */
  readonly data?: readonly number[];
  /** What else is different: bytes in hexadecimal, and where they go. */
  readonly patches?: readonly (readonly [offset: number, bytes: string])[];
  /** As the header names it. */
  readonly backing?: { readonly file: string; readonly format: string };
  /** Behind the data: the directory, then a table and a cluster of bits for each. */
  readonly bitmaps?: readonly SmallBitmap[];
  /** False: the bitmaps count for nothing. */
  readonly bitmapsValid?: boolean;
}

/** Where the bitmaps extension is in an image without a backing file. */
export const BITMAPS_EXTENSION_AT = 112;
/** Where the directory of bitmaps is in an image without data. */
export const BITMAP_DIRECTORY_AT = DATA_AT * CLUSTER;
/** Where the table of the bitmap with that index is in such an image. */
export function bitmapTableAt(index: number): number {
  return BITMAP_DIRECTORY_AT + (1 + 2 * index) * CLUSTER;
}

export function smallQcow2({
  size = 2 ** 20,
  data = [],
  backing,
  bitmaps = [],
  bitmapsValid = true,
  patches = [],
}: SmallQcow2 = {}): Buffer {
  const forBitmaps = bitmaps.length === 0 ? 0 : 1 + 2 * bitmaps.length;
  const clusters = DATA_AT + data.length + forBitmaps;
  const image = Buffer.alloc(clusters * CLUSTER);
  const u64 = (value: number, at: number): number => image.writeBigUInt64BE(BigInt(value), at);
  image.writeUInt32BE(0x514649fb, 0);
  image.writeUInt32BE(3, 4);
  image.writeUInt32BE(16, 20);
  u64(size, 24);
  image.writeUInt32BE(1, 36);
  u64(3 * CLUSTER, 40);
  u64(CLUSTER, 48);
  image.writeUInt32BE(1, 56);
  image.writeUInt32BE(4, 96);
  image.writeUInt32BE(112, 100);
  if (backing !== undefined) {
    image.writeUInt32BE(0xe2792aca, 112);
    image.writeUInt32BE(backing.format.length, 116);
    image.write(backing.format, 120);
    u64(512, 8);
    image.writeUInt32BE(Buffer.byteLength(backing.file), 16);
    image.write(backing.file, 512);
  }
  u64(2 * CLUSTER, CLUSTER);
  for (let cluster = 0; cluster < clusters; cluster++) {
    image.writeUInt16BE(1, 2 * CLUSTER + cluster * 2);
  }
  const copied = 2n ** 63n;
  image.writeBigUInt64BE(copied + BigInt(4 * CLUSTER), 3 * CLUSTER);
  for (const [index, byte] of data.entries()) {
    const offset = (DATA_AT + index) * CLUSTER;
    image.writeBigUInt64BE(copied + BigInt(offset), 4 * CLUSTER + index * 8);
    image.fill(byte, offset, offset + CLUSTER);
  }
  if (bitmaps.length > 0) {
    if (bitmapsValid) u64(1, 88);
    putBitmaps(image, bitmaps, {
      extension: backing === undefined ? BITMAPS_EXTENSION_AT : BITMAPS_EXTENSION_AT + 16,
      directory: (DATA_AT + data.length) * CLUSTER,
    });
  }
  for (const [offset, bytes] of patches) image.write(bytes, offset, 'hex');
  return image;
}

function putBitmaps(
  image: Buffer,
  bitmaps: readonly SmallBitmap[],
  at: { readonly extension: number; readonly directory: number },
): void {
  const u64 = (value: number, offset: number): number =>
    image.writeBigUInt64BE(BigInt(value), offset);
  let entry = at.directory;
  for (const [index, bitmap] of bitmaps.entries()) {
    const { name, flags = 2, granularityBits = 16, bits } = bitmap;
    const table = at.directory + (1 + 2 * index) * CLUSTER;
    u64(table, entry);
    image.writeUInt32BE(1, entry + 8);
    image.writeUInt32BE(flags, entry + 12);
    image.writeUInt8(1, entry + 16);
    image.writeUInt8(granularityBits, entry + 17);
    image.writeUInt16BE(Buffer.byteLength(name), entry + 18);
    image.write(name, entry + 24);
    entry += Math.ceil((24 + Buffer.byteLength(name)) / 8) * 8;
    u64(table + CLUSTER, table);
    image.set(bits ?? [], table + CLUSTER);
  }
  image.writeUInt32BE(0x23852875, at.extension);
  image.writeUInt32BE(24, at.extension + 4);
  image.writeUInt32BE(bitmaps.length, at.extension + 8);
  u64(entry - at.directory, at.extension + 16);
  u64(at.directory, at.extension + 24);
}
