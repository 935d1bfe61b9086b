// Attributes of files that some file systems have: the ioctls of linux/fs.h.

import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_NOCOW_FL = 0x00800000;

/** struct fsxattr: [0] flags [4] extent size, 28 bytes. */
const FS_IOC_FSGETXATTR = 0x801c581f;
const FS_IOC_FSSETXATTR = 0x401c5820;
const FS_XFLAG_EXTSIZE = 0x800;

/** Asks that writes overwrite the file in place. Where that is unknown nothing happens. */
export function avoidCopyOnWrite(fd: number): void {
  const flags = Buffer.alloc(8);
  if (libc.ioctlPointer(fd, FS_IOC_GETFLAGS, flags) < 0) return;
  flags.writeUInt32LE((flags.readUInt32LE(0) | FS_NOCOW_FL) >>> 0, 0);
  libc.ioctlPointer(fd, FS_IOC_SETFLAGS, flags);
}

/** Asks that the file be allocated in pieces of `size` bytes; answers why that cannot be done. */
export function setExtentSizeHint(fd: number, size: number): IoError | undefined {
  const attributes = Buffer.alloc(28);
  if (libc.ioctlPointer(fd, FS_IOC_FSGETXATTR, attributes) < 0) return failure();
  attributes.writeUInt32LE(attributes.readUInt32LE(0) | FS_XFLAG_EXTSIZE, 0);
  attributes.writeUInt32LE(size, 4);
  return libc.ioctlPointer(fd, FS_IOC_FSSETXATTR, attributes) < 0 ? failure() : undefined;
}

function failure(): IoError {
  return new IoError(errnoNow(), { syscall: 'ioctl' });
}
