// Descriptors that travel with the bytes of a unix socket (SCM_RIGHTS). Whoever receives one owns it and has to close it.
// For control channels: the structures are made anew for each call.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { WOULD_BLOCK } from './socket.ts';

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
    const received = libc.recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
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
    const sent = libc.sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
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
