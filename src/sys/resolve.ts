// Names to socket addresses: getaddrinfo(3) in the thread pool, with the C library's own texts for what went wrong.
//   struct addrinfo (64 bit): [0] flags [4] family [8] socktype [12] protocol [16] addrlen [24] addr* [32] canonname* [40] next*

import { libc, viewOf } from './libc.ts';
import { AF_UNSPEC } from './sockaddr.ts';

const ADDRINFO_SIZE = 48;
const SOCK_STREAM = 1;
const AI_PASSIVE = 1;
const AI_NUMERICHOST = 4;
const AI_V4MAPPED = 8;
const AI_ADDRCONFIG = 0x20;
const AI_NUMERICSERV = 0x400;
const EAI_NONAME = -2;
const EAI_SERVICE = -8;
/** The resolver itself failed to run; never a code of the C library. */
const EAI_NOT_RUN = -9999;

interface ResolveOptions {
  /** AF_UNSPEC, AF_INET or AF_INET6; AF_UNSPEC by default. */
  readonly family?: number;
  /** For binding: no host means the wildcard address. Otherwise it means loopback. */
  readonly passive?: boolean;
  /** Only families that this machine has an address of; true by default. */
  readonly addressConfig?: boolean;
  /** Numbers only: names are neither looked up for the host nor for the port. */
  readonly numeric?: boolean;
  /** With AF_INET6: IPv4 addresses as IPv6 ones when the host has no other. */
  readonly v4Mapped?: boolean;
}

export interface ResolvedAddress {
  readonly family: number;
  readonly sockaddr: Uint8Array;
}

/** The name could not be resolved; `reason` is gai_strerror's text. */
export class ResolveError extends Error {
  override readonly name = 'ResolveError';
  readonly code: number;
  readonly reason: string;

  constructor(host: string, port: string, code: number) {
    const reason = (code === EAI_NOT_RUN ? null : libc.gai_strerror(code)) ?? 'Unknown error';
    super(`getaddrinfo ${host}:${port}: ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** The stream socket addresses of `host` and `port` ('' for none), in the resolver's order. Rejects ResolveError. */
export function resolve(
  host: string,
  port: string,
  options: ResolveOptions = {},
): Promise<readonly ResolvedAddress[]> {
  // A C string would end there, and name another host.
  if (host.includes('\0')) return Promise.reject(new ResolveError(host, port, EAI_NONAME));
  if (port.includes('\0')) return Promise.reject(new ResolveError(host, port, EAI_SERVICE));
  const hints = Buffer.alloc(ADDRINFO_SIZE);
  const flags =
    (options.passive === true ? AI_PASSIVE : 0) |
    (options.addressConfig === false ? 0 : AI_ADDRCONFIG) |
    (options.numeric === true ? AI_NUMERICHOST | AI_NUMERICSERV : 0) |
    (options.v4Mapped === true ? AI_V4MAPPED : 0);
  hints.writeInt32LE(flags, 0);
  hints.writeInt32LE(options.family ?? AF_UNSPEC, 4);
  hints.writeInt32LE(SOCK_STREAM, 8);
  const head = Buffer.alloc(8);
  return new Promise((fulfil, reject) => {
    libc.getaddrinfo.async(
      host === '' ? null : host,
      port === '' ? null : port,
      hints,
      head,
      (error, result) => {
        const code = error ? EAI_NOT_RUN : result;
        if (code !== 0) {
          reject(new ResolveError(host, port, code));
          return;
        }
        const list = Number(head.readBigUInt64LE(0));
        const found = addressesFrom(list);
        libc.freeaddrinfo(list);
        fulfil(found);
      },
    );
  });
}

function addressesFrom(list: number): ResolvedAddress[] {
  const found: ResolvedAddress[] = [];
  for (let at = list; at !== 0; ) {
    const entry = new DataView(viewOf(at, ADDRINFO_SIZE));
    const sockaddr = viewOf(Number(entry.getBigUint64(24, true)), entry.getUint32(16, true));
    // A copy: the list is freed below.
    found.push({
      family: entry.getInt32(4, true),
      sockaddr: Buffer.from(new Uint8Array(sockaddr)),
    });
    at = Number(entry.getBigUint64(40, true));
  }
  return found;
}
