// What the kernel offers to two processes that share a device: descriptors sent over a socket, event counters, memory by
// descriptor. The suite's own, so that it can send what the daemon's functions would not: any number of descriptors, memory that
// shrinks.

import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import type { IoBuffer } from '../../../src/base/io-buffer.ts';
import { addressOf, errnoNow, libc, viewOf } from '../../../src/sys/libc.ts';
import { close, WOULD_BLOCK } from '../../../src/sys/socket.ts';

/** What the kernel carries with one sendmsg() at most (SCM_MAX_FD), so that a receipt never loses a descriptor. */
export const MAX_DESCRIPTORS = 253;

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

// struct cmsghdr {size_t len; int level; int type;}, then the data, padded to 8 bytes.
const CMSG_HEADER = 16;
const VECTOR_AT = 56;
const CONTROL_AT = 72;
const CONTROL_LENGTH_AT = 40;
const CONTROL_LENGTH = CMSG_HEADER + MAX_DESCRIPTORS * 4 + 4;

/**
 * Receives up to `length` bytes at `address`; descriptors that came with them are appended to `descriptors`, close-on-exec.
 * Bytes received, 0 at end of stream, or WOULD_BLOCK. Throws IoError.
 */
export function receiveWithDescriptors(
  fd: number,
  address: number,
  length: number,
  descriptors: number[],
): number {
  const message = messageOf(address, length, CONTROL_LENGTH);
  for (;;) {
    const received = libc.recvmsg(fd, addressOf(message), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received >= 0) {
      const controlLength = message.readUInt32LE(CONTROL_LENGTH_AT);
      collect(message.subarray(CONTROL_AT, CONTROL_AT + controlLength), descriptors);
      return received;
    }
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'recvmsg' });
  }
}

/**
 * Sends `length` bytes (at least one, or the descriptors would not travel) from `address` with copies of `descriptors`.
 * Bytes taken, which have all the descriptors with them, or WOULD_BLOCK. Throws IoError.
 */
export function sendWithDescriptors(
  fd: number,
  address: number,
  length: number,
  descriptors: readonly number[],
): number {
  const control = rights(descriptors);
  const message = messageOf(address, length, control.length);
  control.copy(message, CONTROL_AT);
  for (;;) {
    const sent = libc.sendmsg(fd, addressOf(message), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'sendmsg' });
  }
}

// One block, which stays referenced as long as the call runs and points into itself:
//   [ 0 .. 55]  struct msghdr: name, namelen, iov at 16, iovlen at 24, control at 32, controllen at 40, flags
//   [56 .. 71]  struct iovec: base, len
//   [72 ..   ]  control messages
function messageOf(address: number, length: number, controlLength: number): Buffer {
  const message = Buffer.alloc(CONTROL_AT + controlLength);
  const here = BigInt(addressOf(message));
  message.writeBigUInt64LE(here + BigInt(VECTOR_AT), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(BigInt(address), VECTOR_AT);
  message.writeBigUInt64LE(BigInt(length), VECTOR_AT + 8);
  if (controlLength > 0) message.writeBigUInt64LE(here + BigInt(CONTROL_AT), 32);
  message.writeUInt32LE(controlLength, CONTROL_LENGTH_AT);
  return message;
}

function rights(descriptors: readonly number[]): Buffer {
  if (descriptors.length === 0) return Buffer.alloc(0);
  const length = CMSG_HEADER + descriptors.length * 4;
  const control = Buffer.alloc(Math.ceil(length / 8) * 8);
  control.writeBigUInt64LE(BigInt(length), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  for (const [index, descriptor] of descriptors.entries()) {
    control.writeInt32LE(descriptor, CMSG_HEADER + index * 4);
  }
  return control;
}

function collect(control: Buffer, into: number[]): void {
  let at = 0;
  while (at + CMSG_HEADER <= control.length) {
    const length = control.readUInt32LE(at);
    if (length < CMSG_HEADER) return;
    if (control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS) {
      const end = Math.min(at + length, control.length);
      for (let each = at + CMSG_HEADER; each + 4 <= end; each += 4) {
        into.push(control.readInt32LE(each));
      }
    }
    at += Math.ceil(length / 8) * 8;
  }
}

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

export interface EventCounter {
  readonly fd: number;
  /** Adds one. A counter that is full or a reader that is gone is no failure: there is nobody to wake. */
  signal(): void;
  /** Takes what was added; whether there was anything. Throws IoError when the descriptor cannot be read at all. */
  take(): boolean;
  /** Idempotent. */
  close(): void;
}

/** A new counter at 0, non-blocking and close-on-exec. Throws IoError. */
export function eventCounter(): EventCounter {
  const fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'eventfd' });
  return eventCounterOver(fd);
}

/** A counter that came from elsewhere, set to non-blocking by the caller. Owns the descriptor from now on. */
export function eventCounterOver(fd: number): EventCounter {
  const one = Buffer.alloc(8);
  one.writeUInt8(1);
  const taken = Buffer.alloc(8);
  const from = addressOf(one);
  const into = addressOf(taken);
  let open = true;
  return {
    fd,
    signal: () => {
      libc.write(fd, from, one.length);
    },
    take: () => {
      for (;;) {
        if (libc.read(fd, into, taken.length) >= 0) return true;
        const code = errnoNow();
        if (code === errno.EAGAIN) return false;
        if (code !== errno.EINTR) throw new IoError(code, { syscall: 'read' });
      }
    },
    close: () => {
      if (open) close(fd);
      open = false;
    },
  };
}

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** A mapping. Neither `bytes` nor a view of it may be touched after unmap(). */
export interface SharedMemory extends IoBuffer {
  /** Idempotent. */
  unmap(): void;
}

/**
 * The descriptor of `length` bytes of zeroes that live in memory; close-on-exec. `sealed`: it will never have another length.
 * Throws IoError.
 */
export function createMemfd(length: number, options: { readonly sealed: boolean }): number {
  const fd = libc.memfd_create('guest', MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'memfd_create' });
  truncate(fd, length);
  if (options.sealed) libc.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return fd;
}

/** Gives a file another length. Throws IoError. */
export function truncate(fd: number, length: number): void {
  if (libc.ftruncate(fd, length) < 0) throw new IoError(errnoNow(), { syscall: 'ftruncate' });
}

/**
 * Maps `length` bytes at `offset` (a multiple of the page size) of a descriptor, shared, to be read and written. The
 * descriptor may be closed afterwards. Throws IoError.
 */
export function mapShared(fd: number, offset: number, length: number): SharedMemory {
  const address = libc.mmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd, offset);
  if (address === -1) throw new IoError(errnoNow(), { syscall: 'mmap' });
  const memory = viewOf(address, length);
  let mapped = true;
  return {
    bytes: Buffer.from(memory),
    view: new DataView(memory),
    address,
    unmap: () => {
      if (!mapped) return;
      mapped = false;
      libc.munmap(address, length);
    },
  };
}
