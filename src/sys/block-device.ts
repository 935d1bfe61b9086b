// Block devices: the ioctls of linux/fs.h. Results are values or negative errnos, as in file.ts.

import { callLater } from './file.ts';
import { errnoNow, libc } from './libc.ts';

const BLKROGET = 0x125e;
const BLKSSZGET = 0x1268;
const BLKDISCARD = 0x1277;
const BLKZEROOUT = 0x127f;
/** _IOR('X', 30, struct xfs_dioattr): [0] memory alignment [4] smallest and [8] largest direct transfer. */
const XFS_IOC_DIOINFO = 0x800c581e;

/** 1 for a device that is set read-only, 0 for others, or a negative errno. */
export function isReadOnlyDevice(fd: number): number {
  return integerFrom(fd, BLKROGET);
}

/** Logical block size in bytes, or a negative errno: the descriptor is not a block device. */
export function logicalBlockSize(fd: number): number {
  return integerFrom(fd, BLKSSZGET);
}

/** Smallest direct transfer in bytes, where the file system is XFS; otherwise a negative errno. */
export function xfsDirectAlignment(fd: number): number {
  const attributes = Buffer.alloc(16);
  if (libc.ioctlPointer(fd, XFS_IOC_DIOINFO, attributes) < 0) return -errnoNow();
  return attributes.readUInt32LE(4);
}

/** Makes a range of a device read as zeroes. 0 or a negative errno. */
export function zeroDeviceRange(fd: number, offset: number, length: number): Promise<number> {
  return rangeCall(fd, BLKZEROOUT, offset, length);
}

/** Tells a device that a range is not needed. 0 or a negative errno. */
export function discardDeviceRange(fd: number, offset: number, length: number): Promise<number> {
  return rangeCall(fd, BLKDISCARD, offset, length);
}

function integerFrom(fd: number, request: number): number {
  const value = Buffer.alloc(8);
  if (libc.ioctlPointer(fd, request, value) < 0) return -errnoNow();
  return value.readInt32LE(0);
}

function rangeCall(fd: number, request: number, offset: number, length: number): Promise<number> {
  const range = Buffer.alloc(16);
  range.writeBigUInt64LE(BigInt(offset), 0);
  range.writeBigUInt64LE(BigInt(length), 8);
  return callLater((done) =>
    libc.ioctlPointer.async(fd, request, range, (error, result) => {
      // `range` stays referenced until here.
      range.fill(0);
      done(error, result);
    }),
  );
}
