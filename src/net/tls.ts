// Makes TLS sessions out of connected sockets. Loaded when the first is wanted: node:tls is a good part of a start.
//
// The descriptor goes over to node: ours stops watching it, node's socket owns it from then on, and closing the channel closes it.
// Bytes that came before the handshake was asked for, if there are any, are the beginning of the handshake, and nothing else.

import { Socket } from 'node:net';
import { connect, createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsCredentials, TlsMaterial } from '../base/tls-credentials.ts';
import { ChunkPool } from './chunk-pool.ts';
import type { SocketChannel } from './socket-channel.ts';
import { descriptorForNode } from './socket-relay.ts';
import { TlsChannel } from './tls-channel.ts';
import { contextOptions } from './tls-context.ts';
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
  readonly #pool = new ChunkPool();
  readonly #channels = new WeakMap<object, TlsChannel>();
  /** What was made of the credentials as they were. */
  #made: { material: TlsMaterial; priority: string | undefined; server: Server } | undefined;

  constructor(credentials: TlsCredentials) {
    this.#credentials = credentials;
  }

  /** Takes over the connection; the session is there when `ready` resolves. Throws TlsError, and the connection is as it was. */
  accept(plain: SocketChannel, start: TlsStart): TlsChannel {
    const server = this.#server();
    const credentials = this.#credentials;
    const socket = socketOf(plain, start.received);
    const channel = new TlsChannel({
      peer: plain.peer,
      socket,
      pool: this.#pool,
      kind: credentials.material.kind,
      check: (tls) => checkPeer(tls, { credentials, ...optional('authorize', start.authorize) }),
      handshakeMs: start.handshakeMs,
    });
    this.#channels.set(socket, channel);
    server.emit('connection', socket);
    return channel;
  }

  #server(): Server {
    const { material, priority, endpoint } = this.#credentials;
    if (endpoint !== 'server') throw new TlsError("Credentials endpoint doesn't match session");
    const made = this.#made;
    if (made?.material === material && made.priority === priority) return made.server;
    const server = this.#make();
    this.#made = { material, priority, server };
    return server;
  }

  /** It never listens: connections are given to it. */
  #make(): Server {
    const credentials = this.#credentials;
    const { material } = credentials;
    let server: Server;
    try {
      server = createServer({
        ...contextOptions(credentials),
        requestCert: material.kind === 'x509',
        // Peers are checked afterwards, by checkPeer.
        rejectUnauthorized: false,
        ...(material.kind === 'psk'
          ? {
              pskCallback: (tls: TLSSocket, user: string) => {
                this.#channelOf(tls)?.peerNamed(user);
                return keyOf(material, user);
              },
            }
          : {}),
      });
    } catch (error) {
      throw asTlsError(error);
    }
    server.on('secureConnection', (tls) => this.#channelOf(tls)?.secured(tls));
    server.on('tlsClientError', (error, tls) => this.#channelOf(tls)?.failed(error));
    return server;
  }

  /** node has no documented way from a TLS socket to the one below. */
  #channelOf(tls: TLSSocket): TlsChannel | undefined {
    const { _parent: below } = tls as TLSSocket & { readonly _parent?: object | null };
    return below ? this.#channels.get(below) : undefined;
  }
}

/** The client's end. Throws TlsError, and the connection is as it was. */
export function tlsConnect(
  plain: SocketChannel,
  credentials: TlsCredentials,
  start: TlsStart & { readonly hostname?: string },
): TlsChannel {
  const { material, endpoint } = credentials;
  if (endpoint !== 'client') throw new TlsError("Credentials endpoint doesn't match session");
  const context = contextOptions(credentials);
  const socket = socketOf(plain, start.received);
  const channel = new TlsChannel({
    peer: plain.peer,
    socket,
    pool: new ChunkPool(),
    kind: material.kind,
    check: (tls) => checkPeer(tls, { credentials, ...optional('hostname', start.hostname) }),
    handshakeMs: start.handshakeMs,
  });
  try {
    const tls = connect({
      ...context,
      socket,
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(material.kind === 'psk' ? { pskCallback: () => identityOf(material) } : {}),
    });
    tls.once('secureConnect', () => channel.secured(tls));
    tls.once('error', (error) => channel.failed(error));
    tls.once('close', () => channel.failed({ code: 'ECONNRESET' }));
  } catch (error) {
    channel.failed(error);
  }
  return channel;
}

type Psk = Extract<TlsMaterial, { kind: 'psk' }>;

function keyOf(material: Psk, user: string): Buffer | null {
  try {
    return material.keyOf(user) ?? null;
  } catch {
    // The file is gone: nobody is known.
    return null;
  }
}

function identityOf(material: Psk): { psk: Buffer; identity: string } | null {
  const identity = material.username ?? '';
  const psk = material.keyOf(identity);
  return psk === undefined ? null : { psk, identity };
}

/** The connection as node's socket. */
function socketOf(plain: SocketChannel, received: Uint8Array | undefined): Socket {
  const socket = new Socket({ fd: descriptorForNode(plain), readable: true, writable: true });
  if (received !== undefined && received.length > 0) socket.unshift(received);
  return socket;
}

function asTlsError(error: unknown): TlsError {
  if (error instanceof TlsError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new TlsError(`Cannot set session credentials: ${reason}`, { cause: error });
}

function optional<Name extends string, T>(name: Name, value: T | undefined): { [N in Name]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { [N in Name]?: T };
}
