// TLS for a socket chardev. Loaded with the first one that has credentials.

import type { TlsCredentials } from '../../base/tls-credentials.ts';
import type { ChardevSocket } from '../../qapi/generated/types.ts';
import type { SocketChannel } from '../socket-channel.ts';
import { TlsAcceptor, tlsConnect } from '../tls.ts';
import type { TlsChannel } from '../tls-channel.ts';
import type { PortContext } from './chardev.ts';

/** A chardev has one peer at a time: one that does not come to an end with the handshake keeps others out. */
const HANDSHAKE_MS = 10_000;

/** What makes TLS of a connection. It throws, or its channel's `ready` rejects, with the reason. */
export function tlsOfSocket(
  options: ChardevSocket,
  credentials: TlsCredentials,
  { objects }: Pick<PortContext, 'objects'>,
): (plain: SocketChannel) => TlsChannel {
  const start = { handshakeMs: HANDSHAKE_MS };
  if (options.server === false) {
    const { addr } = options;
    const hostname = addr.type === 'inet' ? { hostname: addr.data.host } : {};
    return (plain) => tlsConnect(plain, credentials, { ...start, ...hostname });
  }
  const acceptor = new TlsAcceptor(credentials);
  const authz = options['tls-authz'];
  const authorize =
    authz === undefined ? {} : { authorize: (name: string) => objects.isAuthorized(authz, name) };
  return (plain) => acceptor.accept(plain, { ...start, ...authorize });
}
