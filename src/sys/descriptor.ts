// Pipes, terminals and other descriptors that are neither sockets nor files with offsets.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';
import { WOULD_BLOCK } from './socket.ts';

const F_GETFL = 3;
const F_SETFL = 4;

/** Bytes read into `address` (1..length), 0 at end of stream, or WOULD_BLOCK. Throws IoError. */
export function readDescriptor(fd: number, address: number, length: number): number {
  for (;;) {
    const count = libc.read(fd, address, length);
    if (count >= 0) return count;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'read' });
  }
}

/** Bytes written from `address` (1..length), or WOULD_BLOCK. Throws IoError. */
export function writeDescriptor(fd: number, address: number, length: number): number {
  for (;;) {
    const count = libc.write(fd, address, length);
    if (count >= 0) return count;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'write' });
  }
}

/** O_NONBLOCK and the other status flags. Throws IoError. */
export function statusFlags(fd: number): number {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0) throw new IoError(errnoNow(), { syscall: 'fcntl' });
  return flags;
}

export function setStatusFlags(fd: number, flags: number): void {
  if (libc.fcntl(fd, F_SETFL, flags) < 0) throw new IoError(errnoNow(), { syscall: 'fcntl' });
}
