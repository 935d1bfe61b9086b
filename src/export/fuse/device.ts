// The kernel's end of a mount, as a descriptor: what is read is a request, what is written a reply.

import { readDescriptor, writeDescriptor } from '../../sys/descriptor.ts';
import { closeFile } from '../../sys/file.ts';

export interface FuseDevice {
  /** For watching. */
  readonly fd: number;
  /** One request, read to `address` (`room` bytes): its length, 0 at the end, or WOULD_BLOCK. Throws IoError. */
  read(address: number, room: number): number;
  /** Throws IoError. */
  write(address: number, length: number): void;
  /** Whoever still uses the mount gets ENOTCONN. */
  close(): void;
}

/** `fd` is of /dev/fuse, mounted and non-blocking; close() closes it. */
export function fuseDevice(fd: number): FuseDevice {
  return {
    fd,
    read: (address, room) => readDescriptor(fd, address, room),
    write: (address, length) => void writeDescriptor(fd, address, length),
    close: () => closeFile(fd),
  };
}
