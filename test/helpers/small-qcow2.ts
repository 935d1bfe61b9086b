// A small qcow2 image, made without anybody's tools: 64 KiB clusters, version 3, one L2 table.

const CLUSTER = 65536;
const DATA_AT = 5;

export interface SmallQcow2 {
  /** Of the disk, bytes. */
  readonly size?: number;
  /** The first clusters of the disk hold these bytes each; the rest is unallocated. */
  readonly data?: readonly number[];
  /** As the header names it. */
  readonly backing?: { readonly file: string; readonly format: string };
}

export function smallQcow2({ size = 2 ** 20, data = [], backing }: SmallQcow2 = {}): Buffer {
  const image = Buffer.alloc((DATA_AT + data.length) * CLUSTER);
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
  for (let cluster = 0; cluster < DATA_AT + data.length; cluster++) {
    image.writeUInt16BE(1, 2 * CLUSTER + cluster * 2);
  }
  const copied = 2n ** 63n;
  image.writeBigUInt64BE(copied + BigInt(4 * CLUSTER), 3 * CLUSTER);
  for (const [index, byte] of data.entries()) {
    const offset = (DATA_AT + index) * CLUSTER;
    image.writeBigUInt64BE(copied + BigInt(offset), 4 * CLUSTER + index * 8);
    image.fill(byte, offset, offset + CLUSTER);
  }
  return image;
}
