// The configuration space of a virtio block device, as its driver reads it.

import { MAX_DISCARD_SECTORS, MAX_WRITE_ZEROES_SECTORS, SECTOR, SEGMENTS_MAX } from './protocol.ts';

/** Bytes of the configuration space. */
export const CONFIG_SIZE = 60;

/** Where the cache mode is in it, one byte: 1 write back, 0 write through. */
export const CONFIG_WCE = 32;

export interface ConfigFields {
  /** Bytes of the disk. */
  readonly length: number;
  readonly blockSize: number;
  readonly queues: number;
  readonly writeBack: boolean;
}

//   [ 0 ..  7]  capacity                   sectors
//   [ 8 .. 11]  size_max                   0: no limit
//   [12 .. 15]  seg_max
//   [16 .. 19]  geometry                   not offered
//   [20 .. 23]  blk_size
//   [24]        physical_block_exp         [25] alignment_offset
//   [26 .. 27]  min_io_size                blocks
//   [28 .. 31]  opt_io_size                blocks
//   [32]        writeback                  [33] unused
//   [34 .. 35]  num_queues
//   [36 .. 39]  max_discard_sectors        [40 .. 43] max_discard_seg
//   [44 .. 47]  discard_sector_alignment
//   [48 .. 51]  max_write_zeroes_sectors   [52 .. 55] max_write_zeroes_seg
//   [56]        write_zeroes_may_unmap     [57 .. 59] unused
export function encodeConfig(fields: ConfigFields): Buffer {
  const config = Buffer.alloc(CONFIG_SIZE);
  config.writeBigUInt64LE(BigInt(sectorsOf(fields.length)), 0);
  config.writeUInt32LE(SEGMENTS_MAX, 12);
  config.writeUInt32LE(fields.blockSize, 20);
  config.writeUInt16LE(1, 26);
  config.writeUInt32LE(1, 28);
  config.writeUInt8(fields.writeBack ? 1 : 0, CONFIG_WCE);
  config.writeUInt16LE(fields.queues, 34);
  config.writeUInt32LE(MAX_DISCARD_SECTORS, 36);
  config.writeUInt32LE(1, 40);
  config.writeUInt32LE(Math.floor(fields.blockSize / SECTOR), 44);
  config.writeUInt32LE(MAX_WRITE_ZEROES_SECTORS, 48);
  config.writeUInt32LE(1, 52);
  return config;
}

/** Whole sectors of a disk of `length` bytes. */
export function sectorsOf(length: number): number {
  return Math.floor(length / SECTOR);
}
