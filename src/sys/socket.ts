// Sockets by direct system calls. Every descriptor made here is non-blocking and close-on-exec. Failures throw IoError with
// the name of the system call; "would block" is a value.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';
import { decodeSockaddr, type SocketName } from './sockaddr.ts';

/** No data, no room or no connection at the moment. */
export const WOULD_BLOCK = -1;

export const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_MORE = 0x8000;
const SHUT_RDWR = 2;
const AF_UNIX = 1;

const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;

/** Integer socket options, by the name the manual pages use. */
const socketOptions = {
  SO_REUSEADDR: [SOL_SOCKET, 2],
  SO_TYPE: [SOL_SOCKET, 3],
  SO_ERROR: [SOL_SOCKET, 4],
  SO_SNDBUF: [SOL_SOCKET, 7],
  SO_RCVBUF: [SOL_SOCKET, 8],
  SO_KEEPALIVE: [SOL_SOCKET, 9],
  SO_DOMAIN: [SOL_SOCKET, 39],
  TCP_NODELAY: [IPPROTO_TCP, 1],
  TCP_CORK: [IPPROTO_TCP, 3],
  IPV6_V6ONLY: [IPPROTO_IPV6, 26],
} as const satisfies Record<string, readonly [level: number, name: number]>;

type SocketOption = keyof typeof socketOptions;

export const IPPROTO_MPTCP = 262;

/** A new stream socket of an address family; protocol 0 is the family's own. */
export function socket(family: number, protocol = 0): number {
  const fd = libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw failed('socket');
  return fd;
}

/** Two connected unix stream sockets. */
export function socketPair(): readonly [number, number] {
  const pair = Buffer.alloc(8);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
    throw failed('socketpair');
  }
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

export function bind(fd: number, sockaddr: Uint8Array): void {
  if (libc.bind(fd, sockaddr, sockaddr.length) < 0) throw failed('bind');
}

export function listen(fd: number, backlog: number): void {
  if (libc.listen(fd, backlog) < 0) throw failed('listen');
}

/** The next connection of a listening socket, or WOULD_BLOCK. A peer that is gone again counts as none. */
export function accept(fd: number): number {
  for (;;) {
    const connection = libc.accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection >= 0) return connection;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR && code !== errno.ECONNABORTED) {
      throw new IoError(code, { syscall: 'accept4' });
    }
  }
}

/**
 * Starts to connect. True when connected already; false when it goes on: wait until the socket is writable, then call
 * finishConnect().
 */
export function connect(fd: number, sockaddr: Uint8Array): boolean {
  for (;;) {
    if (libc.connect(fd, sockaddr, sockaddr.length) === 0) return true;
    const code = errnoNow();
    if (code === errno.EINPROGRESS) return false;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'connect' });
  }
}

/** Throws why a connection attempt failed, once the socket is writable. */
export function finishConnect(fd: number): void {
  const code = getSocketOption(fd, 'SO_ERROR');
  if (code !== 0) throw new IoError(code, { syscall: 'connect' });
}

/** Bytes received at `address` (1..length), 0 at end of stream, or WOULD_BLOCK. */
export function receive(fd: number, address: number, length: number): number {
  for (;;) {
    const received = libc.recv(fd, address, length, MSG_DONTWAIT);
    if (received >= 0) return received;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'recv' });
  }
}

/** Bytes taken from `address` (1..length), or WOULD_BLOCK. Raises no SIGPIPE. */
export function send(fd: number, address: number, length: number): number {
  return sendFlagged(fd, address, length, 0);
}

function sendFlagged(fd: number, address: number, length: number, flags: number): number {
  for (;;) {
    const sent = libc.send(fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    if (sent >= 0) return sent;
    const code = errnoNow();
    if (code === errno.EAGAIN) return WOULD_BLOCK;
    if (code !== errno.EINTR) throw new IoError(code, { syscall: 'send' });
  }
}

/**
 * Sends `header` bytes at `address`, then `length` bytes of a file from `offset` on, straight from the page cache. How many
 * bytes of both were taken, or WOULD_BLOCK when none were; fewer than there are also where the file ends, or the kernel
 * cannot do it for this file. Raises no SIGPIPE for a header of at least one byte.
 */
export class FileSender {
  readonly #offset = Buffer.alloc(128);

  send(
    fd: number,
    header: { readonly address: number; readonly length: number },
    file: { readonly fd: number; readonly offset: number },
    length: number,
  ): number {
    const sent = sendFlagged(fd, header.address, header.length, MSG_MORE);
    if (sent < header.length) return sent;
    this.#offset.writeUInt32LE(file.offset % 0x1_0000_0000, 0);
    this.#offset.writeUInt32LE(Math.floor(file.offset / 0x1_0000_0000), 4);
    let done = 0;
    while (done < length) {
      // Moves the offset along.
      const part = libc.sendfile(fd, file.fd, this.#offset, length - done);
      if (part > 0) done += part;
      else if (part === 0 || errnoNow() !== errno.EINTR) break;
    }
    return sent + done;
  }
}

/** Ends both directions. A socket that is not connected (any more) is left as it is. */
export function shutdown(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}

/** Closes any descriptor. Linux frees it even when close() fails, so a failure is not reported. */
export function close(fd: number): void {
  libc.close(fd);
}

export function getSocketOption(fd: number, option: SocketOption): number {
  const [level, name] = socketOptions[option];
  const value = Buffer.alloc(4);
  if (libc.getsockopt(fd, level, name, value, uint32(value.length)) < 0) throw failed('getsockopt');
  return value.readInt32LE(0);
}

export function setSocketOption(fd: number, option: SocketOption, value: number): void {
  const [level, name] = socketOptions[option];
  if (libc.setsockopt(fd, level, name, uint32(value), 4) < 0) throw failed('setsockopt');
}

export function isSocket(fd: number): boolean {
  const value = Buffer.alloc(4);
  return libc.getsockopt(fd, SOL_SOCKET, socketOptions.SO_TYPE[1], value, uint32(4)) === 0;
}

/** What the socket is bound to. */
export function localName(fd: number): SocketName {
  return decodeSockaddr(rawName(fd, 'getsockname'));
}

/** What the socket is connected to; throws ENOTCONN. */
export function peerName(fd: number): SocketName {
  return decodeSockaddr(rawName(fd, 'getpeername'));
}

function rawName(fd: number, call: 'getsockname' | 'getpeername'): Uint8Array {
  const sockaddr = Buffer.alloc(128);
  const length = uint32(sockaddr.length);
  if (libc[call](fd, sockaddr, length) < 0) throw failed(call);
  return sockaddr.subarray(0, length.readUInt32LE(0));
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function failed(syscall: string): IoError {
  return new IoError(errnoNow(), { syscall });
}
