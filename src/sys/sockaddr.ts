// struct sockaddr_* of Linux, bytes to values and back. Numbers are in host order (little-endian on every target) unless said.
//   sockaddr_un    [0..1] family  [2..109] path; abstract names begin with a NUL and are as long as the length says
//   sockaddr_in    [0..1] family  [2..3] port (big-endian)  [4..7] address
//   sockaddr_in6   [0..1] family  [2..3] port (big-endian)  [4..7] flow  [8..23] address  [24..27] scope
//   sockaddr_vm    [0..1] family  [2..3] reserved  [4..7] port  [8..11] cid

import { libc } from './libc.ts';

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_VSOCK = 40;

/** Longest path or abstract name of a unix socket, in bytes. */
export const UNIX_PATH_MAX = 108;
const UNIX_PATH_AT = 2;
const NI_NUMERICHOST_NUMERICSERV = 3;

/** What a socket is bound or connected to. `host` and `port` are numeric text, as getnameinfo gives them. */
export type SocketName =
  | { readonly family: 'unix'; readonly path: string }
  /** `tight`: the name's length is the address's; otherwise the whole of sun_path counts, padded with NULs. */
  | { readonly family: 'abstract'; readonly name: string; readonly tight: boolean }
  | { readonly family: 'inet' | 'inet6'; readonly host: string; readonly port: string }
  | { readonly family: 'vsock'; readonly cid: number; readonly port: number }
  | { readonly family: 'other'; readonly number: number };

/** sockaddr_un of a path. The caller has checked the length against UNIX_PATH_MAX. */
export function unixSockaddr(path: string): Uint8Array {
  const bytes = Buffer.alloc(UNIX_PATH_AT + UNIX_PATH_MAX);
  bytes.writeUInt16LE(AF_UNIX, 0);
  const length = bytes.write(path, UNIX_PATH_AT);
  // The reference passes the terminating NUL when there is room for one.
  return bytes.subarray(0, Math.min(UNIX_PATH_AT + length + 1, bytes.length));
}

/** sockaddr_un of an abstract name; at most UNIX_PATH_MAX - 1 bytes. */
export function abstractSockaddr(name: string, options: { tight: boolean }): Uint8Array {
  const bytes = Buffer.alloc(UNIX_PATH_AT + UNIX_PATH_MAX);
  bytes.writeUInt16LE(AF_UNIX, 0);
  const length = bytes.write(name, UNIX_PATH_AT + 1);
  return options.tight ? bytes.subarray(0, UNIX_PATH_AT + 1 + length) : bytes;
}

export function vsockSockaddr(cid: number, port: number): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_VSOCK, 0);
  bytes.writeUInt32LE(port, 4);
  bytes.writeUInt32LE(cid, 8);
  return bytes;
}

/** The port of an inet or inet6 sockaddr. */
export function sockaddrPort(sockaddr: Uint8Array): number {
  return ((sockaddr[2] ?? 0) << 8) | (sockaddr[3] ?? 0);
}

/** A copy of an inet or inet6 sockaddr with another port. */
export function withPort(sockaddr: Uint8Array, port: number): Uint8Array {
  const copy = Buffer.from(sockaddr);
  copy.writeUInt16BE(port, 2);
  return copy;
}

/** The name in a sockaddr that the kernel filled in. */
export function decodeSockaddr(sockaddr: Uint8Array): SocketName {
  const bytes = Buffer.from(sockaddr.buffer, sockaddr.byteOffset, sockaddr.byteLength);
  const family = bytes.length < 2 ? AF_UNIX : bytes.readUInt16LE(0);
  switch (family) {
    case AF_UNIX:
      return decodeUnix(bytes);
    case AF_INET:
      return { family: 'inet', ...numericName(bytes) };
    case AF_INET6:
      return { family: 'inet6', ...numericName(bytes) };
    case AF_VSOCK:
      return { family: 'vsock', cid: bytes.readUInt32LE(8), port: bytes.readUInt32LE(4) };
    default:
      return { family: 'other', number: family };
  }
}

function decodeUnix(bytes: Buffer): SocketName {
  const path = bytes.subarray(UNIX_PATH_AT);
  if (path.length === 0) return { family: 'unix', path: '' };
  if (path[0] === 0) {
    const name = path.subarray(1);
    const tight = path.length < UNIX_PATH_MAX;
    return { family: 'abstract', name: tight ? name.toString() : untilNul(name), tight };
  }
  return { family: 'unix', path: untilNul(path) };
}

function numericName(sockaddr: Uint8Array): { host: string; port: string } {
  const host = Buffer.alloc(64);
  const port = Buffer.alloc(16);
  const result = libc.getnameinfo(
    sockaddr,
    sockaddr.length,
    host,
    host.length,
    port,
    port.length,
    NI_NUMERICHOST_NUMERICSERV,
  );
  return result === 0 ? { host: untilNul(host), port: untilNul(port) } : { host: '', port: '' };
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end);
}
