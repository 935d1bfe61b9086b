// From a socket address to listening descriptors: which calls are made in which order, and what is said when one fails.

import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { ResolvedAddress } from '../sys/resolve.ts';
import {
  AF_INET6,
  AF_UNIX,
  AF_VSOCK,
  abstractSockaddr,
  sockaddrPort,
  unixSockaddr,
  vsockSockaddr,
  withPort,
} from '../sys/sockaddr.ts';
import { bind, close, IPPROTO_MPTCP, listen, setSocketOption, socket } from '../sys/socket.ts';
import { resolveInet, socketOfDescriptor } from './connect.ts';
import {
  checkUnixPath,
  isIpv6Only,
  type LocalAddress,
  parseVsock,
  type SocketAddress,
} from './socket-address.ts';
import { makeRoom, temporaryPath } from './socket-file.ts';
import { failure } from './system-error.ts';

type AddressOf<Type extends SocketAddress['type']> = Extract<SocketAddress, { type: Type }>;

interface BindOptions {
  readonly backlog: number;
  readonly fdsByNumber: boolean;
}

/** Listening sockets for the address, at least one. Rejects QmpError. */
export async function boundSockets(
  address: SocketAddress,
  options: BindOptions,
): Promise<readonly number[]> {
  switch (address.type) {
    case 'inet':
      return bindInet(address, options.backlog);
    case 'unix':
    case 'fd':
      return [boundLocalSocket(address, options)];
    case 'vsock':
      return [bindVsock(address, options.backlog)];
  }
  return address satisfies never;
}

/** The listening socket of an address that needs no resolver. Throws QmpError. */
export function boundLocalSocket(address: LocalAddress, options: BindOptions): number {
  return address.type === 'unix'
    ? bindUnix(address, options.backlog)
    : adoptSocket(address, options);
}

function bindUnix(address: AddressOf<'unix'>, backlog: number): number {
  const abstract = address.abstract === true;
  const fd = newSocket(AF_UNIX, 'Failed to create Unix socket');
  try {
    if (abstract) {
      checkUnixPath(address.path, { abstract });
      const sockaddr = abstractSockaddr(address.path, { tight: address.tight !== false });
      bindAndListen(fd, sockaddr, { backlog, context: `Failed to bind socket to ${address.path}` });
      return fd;
    }
    checkUnixPath(address.path, { abstract });
    const path = address.path === '' ? temporaryPath() : address.path;
    checkUnixPath(path, { abstract });
    makeRoom(path);
    bindAndListen(fd, unixSockaddr(path), { backlog, context: `Failed to bind socket to ${path}` });
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function bindVsock(address: AddressOf<'vsock'>, backlog: number): number {
  const { cid, port } = parseVsock(address);
  const fd = newSocket(AF_VSOCK, 'Failed to create socket');
  try {
    bindAndListen(fd, vsockSockaddr(cid, port), { backlog, context: 'Failed to bind socket' });
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function adoptSocket(address: AddressOf<'fd'>, options: BindOptions): number {
  const fd = socketOfDescriptor(address.str, options);
  try {
    // Also gives a socket that listens already the backlog asked for.
    listen(fd, options.backlog);
    return fd;
  } catch (error) {
    throw failure('Failed to listen on fd socket', error);
  }
}

/** One socket for each resolution that can be bound; the first failure counts only when none could. */
async function bindInet(address: AddressOf<'inet'>, backlog: number): Promise<number[]> {
  const fds: number[] = [];
  let first: unknown;
  for (const resolved of await resolveInet(address, { passive: true })) {
    try {
      fds.push(bindResolved(address, resolved, backlog));
    } catch (error) {
      first ??= error;
    }
  }
  if (fds.length === 0) throw first;
  return fds;
}

/** Binds to the first free port from the address's to `to`. */
function bindResolved(
  address: AddressOf<'inet'>,
  resolved: ResolvedAddress,
  backlog: number,
): number {
  const protocol = address.mptcp === true ? IPPROTO_MPTCP : 0;
  const low = sockaddrPort(resolved.sockaddr);
  const high = address.to ?? low;
  // The text of a range that holds no port at all.
  let reason = `Failed to create a socket: ${strerror(errno.ENOTCONN)}`;
  for (let port = low; port <= high; port++) {
    let fd: number;
    try {
      fd = socket(resolved.family, protocol);
    } catch (error) {
      if (port !== low) throw failure('Failed to recreate failed listening socket', error);
      // A family that the kernel does not know.
      reason = (failure('Failed to create a socket', error) as Error).message;
      continue;
    }
    try {
      setSocketOption(fd, 'SO_REUSEADDR', 1);
      bindInetSocket(fd, { resolved, port, ipv6Only: isIpv6Only(address) });
      listenOn(fd, backlog);
      return fd;
    } catch (error) {
      close(fd);
      if (!isInUse(error)) throw error;
      reason = `Failed to find an available port: ${strerror(errno.EADDRINUSE)}`;
    }
  }
  throw new QmpError(reason);
}

function bindInetSocket(
  fd: number,
  target: { resolved: ResolvedAddress; port: number; ipv6Only: boolean },
): void {
  const { resolved, port, ipv6Only } = target;
  const sockaddr = withPort(resolved.sockaddr, port & 0xffff);
  if (resolved.family !== AF_INET6) {
    bindTo(fd, sockaddr, 'Failed to bind socket');
    return;
  }
  setSocketOption(fd, 'IPV6_V6ONLY', ipv6Only ? 1 : 0);
  try {
    bindTo(fd, sockaddr, 'Failed to bind socket');
  } catch (error) {
    if (ipv6Only || !isInUse(error)) throw error;
    // The IPv4 half may be taken: be content with IPv6.
    setSocketOption(fd, 'IPV6_V6ONLY', 1);
    bindTo(fd, sockaddr, 'Failed to bind socket');
  }
}

function isInUse(error: unknown): boolean {
  const cause = error instanceof QmpError ? error.cause : error;
  return cause instanceof IoError && cause.errno === errno.EADDRINUSE;
}

function bindAndListen(
  fd: number,
  sockaddr: Uint8Array,
  options: { backlog: number; context: string },
): void {
  bindTo(fd, sockaddr, options.context);
  listenOn(fd, options.backlog);
}

function bindTo(fd: number, sockaddr: Uint8Array, context: string): void {
  try {
    bind(fd, sockaddr);
  } catch (error) {
    throw failure(context, error);
  }
}

function listenOn(fd: number, backlog: number): void {
  try {
    listen(fd, backlog);
  } catch (error) {
    throw failure('Failed to listen on socket', error);
  }
}

function newSocket(family: number, context: string): number {
  try {
    return socket(family);
  } catch (error) {
    throw failure(context, error);
  }
}
