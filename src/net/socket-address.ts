// Socket addresses as the schema has them: the wrapped (legacy) form made flat, names of the kernel made addresses, and the
// rules that follow from an address alone. Nothing here opens a socket.

import { errno, strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';
import type {
  InetSocketAddress,
  SocketAddress,
  SocketAddressLegacy,
} from '../qapi/generated/types.ts';
import { AF_INET, AF_INET6, AF_UNSPEC, type SocketName, UNIX_PATH_MAX } from '../sys/sockaddr.ts';

export type { SocketAddress, SocketAddressLegacy };

/** Those that need no resolver and no network. */
export type LocalAddress = Extract<SocketAddress, { type: 'unix' | 'fd' }>;

const UINT32_MAX = 0xffff_ffff;

/** `{type, data: {...}}` to `{type, ...}`. */
export function flattenAddress(address: SocketAddressLegacy): SocketAddress {
  return { ...address.data, type: address.type } as SocketAddress;
}

/** The address of a socket that the kernel named, as the reference reports it. */
export function addressOfName(name: SocketName): SocketAddress {
  switch (name.family) {
    case 'unix':
      return { type: 'unix', path: name.path };
    case 'abstract':
      return { type: 'unix', path: name.name, abstract: true, tight: name.tight };
    case 'inet':
      return { type: 'inet', host: name.host, port: name.port, ipv4: true };
    case 'inet6':
      return { type: 'inet', host: name.host, port: name.port, ipv6: true };
    case 'vsock':
      return { type: 'vsock', cid: String(name.cid), port: String(name.port) };
    case 'other':
      throw new QmpError(`socket family ${name.number} unsupported`);
  }
  return name satisfies never;
}

/** A name for logs and `ByteChannel.peer`: `unix:PATH`, `127.0.0.1:80`, `[::1]:80`, `vsock:2:1024`. */
export function textOfName(name: SocketName): string {
  switch (name.family) {
    case 'unix':
      return `unix:${name.path}`;
    case 'abstract':
      return `unix:@${name.name}`;
    case 'inet':
      return `${name.host}:${name.port}`;
    case 'inet6':
      return `[${name.host}]:${name.port}`;
    case 'vsock':
      return `vsock:${name.cid}:${name.port}`;
    case 'other':
      return `family ${name.number}`;
  }
  return name satisfies never;
}

/**
 * The address family to resolve for, from `ipv4` and `ipv6`. Both on leaves it to the resolver, but for the empty host, where
 * one IPv6 wildcard socket serves both.
 */
export function familyOf(address: InetSocketAddress): number {
  const { ipv4, ipv6 } = address;
  if (ipv4 === false && ipv6 === false) {
    throw new QmpError('Cannot disable IPv4 and IPv6 at same time');
  }
  if (ipv4 === true && ipv6 === true) return address.host === '' ? AF_INET6 : AF_UNSPEC;
  if (ipv6 === true || ipv4 === false) return AF_INET6;
  if (ipv4 === true || ipv6 === false) return AF_INET;
  return AF_UNSPEC;
}

/** Whether an IPv6 socket of this address must leave IPv4 alone. */
export function isIpv6Only(address: InetSocketAddress): boolean {
  const { ipv4, ipv6 } = address;
  return !(ipv4 === undefined && ipv6 === undefined) && !(ipv4 === true && ipv6 === true);
}

/** Throws when a unix path or abstract name does not fit into a sockaddr_un. */
export function checkUnixPath(path: string, options: { abstract: boolean }): void {
  const max = options.abstract ? UNIX_PATH_MAX - 1 : UNIX_PATH_MAX;
  if (Buffer.byteLength(path) <= max) return;
  throw new QmpError(`UNIX socket path '${path}' is too long`, {
    hint: `Path must be less than ${max} bytes`,
  });
}

/** A vsock address as numbers. */
export function parseVsock(address: { readonly cid: string; readonly port: string }): {
  readonly cid: number;
  readonly port: number;
} {
  const cid = parseUint32(address.cid);
  if (cid === undefined) throw new QmpError(`Failed to parse cid '${address.cid}'`);
  const port = parseUint32(address.port);
  if (port === undefined) throw new QmpError(`Failed to parse port '${address.port}'`);
  return { cid, port };
}

/** The descriptor that an `fd` address names by its number. */
export function parseDescriptor(text: string): number {
  const failed = `Unable to parse FD number ${text}`;
  if (!/^\s*[+-]?\d+$/.test(text)) throw new QmpError(failed);
  const number = Number(text);
  if (number !== (number | 0)) throw new QmpError(`${failed}: ${strerror(errno.ERANGE)}`);
  return number;
}

function parseUint32(text: string): number | undefined {
  if (!/^\s*\+?\d+$/.test(text)) return undefined;
  const number = Number(text);
  return number <= UINT32_MAX ? number : undefined;
}
