// Connecting to a socket address, with the texts that the reference gives when it fails.

import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import { type DescriptorPoller, WRITABLE } from '../sys/poller.ts';
import { type ResolvedAddress, ResolveError, resolve } from '../sys/resolve.ts';
import {
  AF_UNIX,
  AF_VSOCK,
  abstractSockaddr,
  unixSockaddr,
  vsockSockaddr,
} from '../sys/sockaddr.ts';
import {
  close,
  finishConnect,
  IPPROTO_MPTCP,
  isSocket,
  setSocketOption,
  socket,
  connect as startConnect,
} from '../sys/socket.ts';
import {
  checkUnixPath,
  familyOf,
  parseDescriptor,
  parseVsock,
  type SocketAddress,
} from './socket-address.ts';
import { SocketChannel } from './socket-channel.ts';
import { failure } from './system-error.ts';

// A unix listener with a full backlog refuses non-blocking connections and reports no readiness: ask again.
const FULL_BACKLOG_RETRY_MS = 10;

export interface ConnectOptions {
  readonly poller: DescriptorPoller;
  /** Gives up with an AbortError. */
  readonly signal?: AbortSignal;
  /** Whether `fd` addresses are descriptor numbers (command line, the default) or names of a monitor, which has none. */
  readonly fdsByNumber?: boolean;
}

/** A channel to the peer at `address`. Rejects QmpError. */
export async function connect(
  address: SocketAddress,
  options: ConnectOptions,
): Promise<SocketChannel> {
  return new SocketChannel(await connectedSocket(address, options), options.poller);
}

async function connectedSocket(address: SocketAddress, options: ConnectOptions): Promise<number> {
  switch (address.type) {
    case 'inet':
      return connectInet(address, options);
    case 'unix':
      return connectUnix(address, options);
    case 'vsock':
      return connectVsock(address, options);
    case 'fd':
      return socketOfDescriptor(address.str, options);
  }
  return address satisfies never;
}

/** The inherited socket that an `fd` address names. */
export function socketOfDescriptor(text: string, options: { fdsByNumber?: boolean }): number {
  if (options.fdsByNumber === false) {
    throw new QmpError('only QEMU supports file descriptor passing');
  }
  const fd = parseDescriptor(text);
  if (!isSocket(fd)) throw new QmpError(`File descriptor '${text}' is not a socket`);
  return fd;
}

/** Runs the resolver with the reference's text for failures. */
export async function resolveInet(
  address: Extract<SocketAddress, { type: 'inet' }>,
  options: { passive: boolean },
): Promise<readonly ResolvedAddress[]> {
  const { passive } = options;
  const { host } = address;
  // The reference keeps 32 bytes of a listening port.
  const port = passive ? address.port.slice(0, 32) : address.port;
  const family = familyOf(address);
  try {
    return await (passive
      ? resolve(host, port, {
          family,
          passive,
          addressConfig: false,
          numeric: address.numeric === true,
        })
      : resolve(host, port, { family, v4Mapped: true }));
  } catch (error) {
    if (!(error instanceof ResolveError)) throw error;
    throw new QmpError(`address resolution failed for ${host}:${port}: ${error.reason}`);
  }
}

async function connectInet(
  address: Extract<SocketAddress, { type: 'inet' }>,
  options: ConnectOptions,
): Promise<number> {
  // The reference gives the empty host to the resolver as a name, not as "none".
  if (address.host === '') {
    familyOf(address);
    throw new QmpError(`address resolution failed for :${address.port}: Name or service not known`);
  }
  const found = await resolveInet(address, { passive: false });
  const protocol = address.mptcp === true ? IPPROTO_MPTCP : 0;
  const context = `Failed to connect to '${address.host}:${address.port}'`;
  let last: unknown;
  for (const { family, sockaddr } of found) {
    try {
      const fd = await connectTo({ family, protocol, sockaddr, reuse: true, context }, options);
      if (address['keep-alive'] === true) keepAlive(fd);
      return fd;
    } catch (error) {
      if (options.signal?.aborted === true) throw error;
      last = error;
    }
  }
  throw last;
}

function keepAlive(fd: number): void {
  try {
    setSocketOption(fd, 'SO_KEEPALIVE', 1);
  } catch (error) {
    close(fd);
    throw failure('Unable to set KEEPALIVE', error);
  }
}

async function connectUnix(
  address: Extract<SocketAddress, { type: 'unix' }>,
  options: ConnectOptions,
): Promise<number> {
  const { path } = address;
  const abstract = address.abstract === true;
  checkUnixPath(path, { abstract });
  const context = `Failed to connect to '${path}'`;
  if (!abstract && path.includes('\0')) throw new QmpError(`${context}: ${strerror(errno.ENOENT)}`);
  const sockaddr = abstract
    ? abstractSockaddr(path, { tight: address.tight !== false })
    : unixSockaddr(path);
  return connectTo({ family: AF_UNIX, protocol: 0, sockaddr, reuse: false, context }, options);
}

async function connectVsock(
  address: Extract<SocketAddress, { type: 'vsock' }>,
  options: ConnectOptions,
): Promise<number> {
  const { cid, port } = parseVsock(address);
  const sockaddr = vsockSockaddr(cid, port);
  const context = `Failed to connect to '${address.cid}:${address.port}'`;
  return connectTo({ family: AF_VSOCK, protocol: 0, sockaddr, reuse: false, context }, options);
}

interface Target {
  readonly family: number;
  readonly protocol: number;
  readonly sockaddr: Uint8Array;
  /** Whether to set SO_REUSEADDR. */
  readonly reuse: boolean;
  /** What a failure is reported as. */
  readonly context: string;
}

async function connectTo(target: Target, options: ConnectOptions): Promise<number> {
  let fd: number;
  try {
    fd = socket(target.family, target.protocol);
  } catch (error) {
    const text = target.family === AF_UNIX ? 'socket' : `socket family ${target.family}`;
    throw failure(`Failed to create ${text}`, error);
  }
  try {
    if (target.reuse) setSocketOption(fd, 'SO_REUSEADDR', 1);
    while (!startOrWouldBlock(fd, target)) {
      await delay(FULL_BACKLOG_RETRY_MS, options.signal);
    }
    await writable(fd, options);
    finishConnect(fd);
    return fd;
  } catch (error) {
    close(fd);
    throw failure(target.context, error);
  }
}

/** False when a unix listener's backlog is full; true when connected or on the way. */
function startOrWouldBlock(fd: number, target: Target): boolean {
  try {
    startConnect(fd, target.sockaddr);
    return true;
  } catch (error) {
    if (target.family === AF_UNIX && error instanceof IoError && error.errno === errno.EAGAIN) {
      return false;
    }
    throw error;
  }
}

function writable(fd: number, options: ConnectOptions): Promise<void> {
  const { poller, signal } = options;
  return new Promise((fulfil, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const watch = poller.watch(fd, () => done(fulfil));
    function abort(): void {
      done(() => reject(signal?.reason as Error));
    }
    function done(settle: () => void): void {
      watch.close();
      signal?.removeEventListener('abort', abort);
      settle();
    }
    signal?.addEventListener('abort', abort, { once: true });
    watch.want(WRITABLE);
  });
}

function delay(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((fulfil, reject) => {
    setTimeout(() => {
      if (signal?.aborted === true) reject(signal.reason as Error);
      else fulfil();
    }, milliseconds);
  });
}
