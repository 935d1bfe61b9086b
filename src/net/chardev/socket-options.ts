// What a socket chardev's options mean: defaults, combinations that make no sense, and what query-chardev calls it.

import { QmpError } from '../../qapi/errors.ts';
import type { ChardevSocket } from '../../qapi/generated/types.ts';
import type { SocketName } from '../../sys/sockaddr.ts';
import { flattenAddress, type SocketAddress } from '../socket-address.ts';

// What a timer can be set to.
const MAX_RECONNECT_SECONDS = 2 ** 31 / 1000 - 1;

/** ChardevSocket with the defaults filled in. */
export interface SocketSettings {
  readonly address: SocketAddress;
  readonly server: boolean;
  readonly wait: boolean;
  readonly noDelay: boolean;
  readonly protocol: 'tcp' | 'telnet' | 'websocket';
  readonly tn3270: boolean;
  readonly websocket: boolean;
  readonly telnet: boolean;
  /** 0: never again. */
  readonly reconnectSeconds: number;
}

export function settingsOf(options: ChardevSocket): SocketSettings {
  const { telnet = false, tn3270 = false, websocket = false } = options;
  return {
    address: flattenAddress(options.addr),
    server: options.server ?? true,
    wait: options.wait ?? false,
    noDelay: options.nodelay ?? false,
    protocol: telnet ? 'telnet' : websocket ? 'websocket' : 'tcp',
    tn3270,
    websocket,
    telnet,
    reconnectSeconds: secondsOf(options.reconnect ?? 0),
  };
}

// Comparing works for the BigInt, too, that very large numbers come as.
function secondsOf(reconnect: number): number {
  return reconnect > MAX_RECONNECT_SECONDS ? MAX_RECONNECT_SECONDS : reconnect;
}

/** Throws for options that do not go together, in the reference's order. */
export function checkCombination(options: ChardevSocket): void {
  const { type } = options.addr;
  const server = options.server ?? true;
  const tls = options['tls-creds'] !== undefined;
  if (type === 'fd' && options.reconnect !== undefined) {
    throw new QmpError("'reconnect' option is incompatible with 'fd' address type");
  }
  if (type === 'fd' && tls && !server) {
    throw new QmpError("'tls_creds' option is incompatible with 'fd' address type as client");
  }
  if ((type === 'unix' || type === 'vsock') && tls) {
    throw new QmpError(`'tls_creds' option is incompatible with '${type}' address type`);
  }
  if (options['tls-authz'] !== undefined && !tls) {
    throw new QmpError("'tls_authz' option requires 'tls_creds' option");
  }
  if (server && options.reconnect !== undefined) {
    throw new QmpError("'reconnect' option is incompatible with socket in server listen mode");
  }
  if (!server && options.websocket === true) {
    throw new QmpError('Websocket client is not implemented');
  }
  if (!server && options.wait !== undefined) {
    throw new QmpError("'wait' option is incompatible with socket in client connect mode");
  }
}

/** `disconnected:...`: what the chardev would be connected to. */
export function disconnectedName(settings: SocketSettings, address: SocketAddress): string {
  const server = settings.server ? ',server=on' : '';
  switch (address.type) {
    case 'inet':
      return `disconnected:${settings.protocol}:${address.host}:${address.port}${server}`;
    case 'unix': {
      const abstract = address.abstract === true ? ',abstract=on' : '';
      const tight = abstract !== '' && address.tight === true ? ',tight=on' : '';
      return `disconnected:unix:${address.path}${abstract}${tight}${server}`;
    }
    case 'fd':
      return `disconnected:fd:${address.str}${server}`;
    case 'vsock':
      return `disconnected:vsock:${address.cid}:${address.port}`;
  }
  return address satisfies never;
}

/** What the chardev is connected to, from both ends' names. */
export function connectedName(
  settings: SocketSettings,
  local: SocketName,
  remote: SocketName,
): string {
  const server = settings.server ? ',server=on' : '';
  if (local.family === 'unix') return `unix:${local.path}${server}`;
  // An abstract name begins with a NUL, which ends the reference's text.
  if (local.family === 'abstract') return `unix:${server}`;
  if (local.family !== 'inet' && local.family !== 'inet6') return 'unknown';
  return `${settings.protocol}:${hostAndPort(local)}${server} <-> ${hostAndPort(remote)}`;
}

function hostAndPort(name: SocketName): string {
  if (name.family === 'inet6') return `[${name.host}]:${name.port}`;
  return name.family === 'inet' ? `${name.host}:${name.port}` : '';
}
