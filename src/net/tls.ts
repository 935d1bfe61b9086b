// Makes TLS sessions out of connected sockets. Loaded when the first is wanted.
//
// The descriptor goes over to the session's channel, and closing that closes it. Bytes that came before the handshake was asked
// for, if there are any, are the beginning of the handshake, and nothing else.

import type { TlsCredentials, TlsMaterial } from '../base/tls-credentials.ts';
import type { SocketChannel } from './socket-channel.ts';
import { TlsChannel } from './tls-channel.ts';
import { TlsContext } from './tls-context.ts';
import { TlsError } from './tls-failure.ts';
import { checkPeer } from './tls-peer.ts';

export interface TlsStart {
  /** What the peer sent behind its request for TLS. */
  readonly received?: Uint8Array;
  /** Whether the peer may in whose certificate bears this name; all may when absent. May throw. */
  readonly authorize?: (name: string) => boolean;
  /** Milliseconds for the handshake; 0 for any. */
  readonly handshakeMs: number;
}

/** The server's end, for any number of connections with the same credentials. */
export class TlsAcceptor {
  readonly #credentials: TlsCredentials;
  /** What was made of the credentials as they were. */
  #made: { material: TlsMaterial; priority: string | undefined; context: TlsContext } | undefined;

  constructor(credentials: TlsCredentials) {
    this.#credentials = credentials;
  }

  /** Takes over the connection; the session is there when `ready` resolves. Throws TlsError, and the connection is as it was. */
  accept(plain: SocketChannel, { authorize, ...start }: TlsStart): TlsChannel {
    const credentials = this.#credentials;
    const context = this.#context();
    return new TlsChannel({
      ...start,
      plain: plain.handOver(),
      context,
      endpoint: 'server',
      kind: credentials.material.kind,
      check: (peer) => checkPeer(peer, { credentials, ...(authorize && { authorize }) }),
    });
  }

  #context(): TlsContext {
    const { material, priority, endpoint } = this.#credentials;
    if (endpoint !== 'server') throw new TlsError("Credentials endpoint doesn't match session");
    const made = this.#made;
    if (made?.material === material && made.priority === priority) return made.context;
    const context = new TlsContext(this.#credentials);
    this.#made = { material, priority, context };
    return context;
  }
}

/** The client's end. Throws TlsError, and the connection is as it was. */
export function tlsConnect(
  plain: SocketChannel,
  credentials: TlsCredentials,
  { hostname, ...start }: Omit<TlsStart, 'authorize'> & { readonly hostname?: string },
): TlsChannel {
  if (credentials.endpoint !== 'client') {
    throw new TlsError("Credentials endpoint doesn't match session");
  }
  const context = new TlsContext(credentials);
  return new TlsChannel({
    ...start,
    plain: plain.handOver(),
    context,
    endpoint: 'client',
    kind: credentials.material.kind,
    check: (peer) => checkPeer(peer, { credentials, ...(hostname !== undefined && { hostname }) }),
    onFreed: () => context.free(),
  });
}
