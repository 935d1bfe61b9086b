// A request's bytes to values, and why it is refused. No memory but the caller's, no disk, no transport.

import { MAX_REQUEST } from '../../block/io-driver.ts';
import {
  MAX_DISCARD_SECTORS,
  MAX_WRITE_ZEROES_SECTORS,
  SECTOR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_BARRIER,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
  type VirtioBlkStatus,
} from './protocol.ts';

export interface VirtioBlkRequest {
  /** VIRTIO_BLK_T_*, or what else came. */
  type: number;
  /** Exact below 2^53, and above that at least larger than any disk. */
  sector: number;
}

/** The area of a discard or of a write of zeroes. */
export interface VirtioBlkSegment {
  sector: number;
  sectors: number;
  flags: number;
}

/** What requests are checked against. */
export interface DiskShape {
  /** Bytes. */
  readonly length: number;
  readonly blockSize: number;
}

//   [ 0 ..  3]  type
//   [ 4 ..  7]  reserved
//   [ 8 .. 15]  sector
export function decodeHeader(view: DataView, at: number, into: VirtioBlkRequest): void {
  into.type = (view.getUint32(at, true) & ~VIRTIO_BLK_T_BARRIER) >>> 0;
  into.sector = u64(view, at + 8);
}

//   [ 0 ..  7]  sector
//   [ 8 .. 11]  num_sectors
//   [12 .. 15]  flags
export function decodeSegment(view: DataView, at: number, into: VirtioBlkSegment): void {
  into.sector = u64(view, at);
  into.sectors = view.getUint32(at + 8, true);
  into.flags = view.getUint32(at + 12, true);
}

/** Whether `length` bytes at `sector` are on the disk, in whole sectors, and begin at one of its blocks. */
export function isOnDisk(shape: DiskShape, sector: number, length: number): boolean {
  if (length % SECTOR !== 0 || length > MAX_REQUEST) return false;
  const sectors = Math.floor(shape.length / SECTOR);
  if (sector > sectors || length / SECTOR > sectors - sector) return false;
  return (sector * SECTOR) % shape.blockSize === 0;
}

/** The status of a discard or write of zeroes that is refused, or undefined. Checks in the reference's order. */
export function segmentRefusal(
  type: number,
  segment: VirtioBlkSegment,
  shape: DiskShape,
): VirtioBlkStatus | undefined {
  const { sector, sectors, flags } = segment;
  const most = type === VIRTIO_BLK_T_WRITE_ZEROES ? MAX_WRITE_ZEROES_SECTORS : MAX_DISCARD_SECTORS;
  if (sectors > most) return VIRTIO_BLK_S_IOERR;
  if (!isOnDisk(shape, sector, sectors * SECTOR)) return VIRTIO_BLK_S_IOERR;
  if ((flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0) return VIRTIO_BLK_S_UNSUPP;
  if (type === VIRTIO_BLK_T_DISCARD && flags !== 0) return VIRTIO_BLK_S_UNSUPP;
  return undefined;
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}
