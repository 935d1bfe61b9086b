// A socket chardev. As a server it has one peer at a time and leaves further ones in the backlog until that one is gone; as a
// client it may try again and again.
//
//   disconnected --peer--> connecting --WebSocket upgrade, if any--> connected --end of stream, error--> disconnected

import { sayWithoutLocation } from '../../base/log.ts';
import type { TlsCredentials } from '../../base/tls-credentials.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { ChardevSocket } from '../../qapi/generated/types.ts';
import { connect } from '../connect.ts';
import { type Listener, listen } from '../listener.ts';
import type { SocketAddress } from '../socket-address.ts';
import type { SocketChannel } from '../socket-channel.ts';
import type { TlsChannel } from '../tls-channel.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { HIGH_WATER_BYTES, OutputQueue } from './output-queue.ts';
import {
  checkCombination,
  connectedName,
  disconnectedName,
  type SocketSettings,
  settingsOf,
} from './socket-options.ts';
import type { TelnetDecoder } from './telnet.ts';
import type { WebSocketServer } from './websocket.ts';

const WOULD_BLOCK = -1;
// One peer at a time; the reference's backlog.
const BACKLOG = 1;

export async function openSocket(
  options: ChardevSocket,
  context: PortContext,
): Promise<ChardevPort> {
  const id = options['tls-creds'];
  const endpoint = (options.server ?? true) ? 'server' : 'client';
  const credentials = id === undefined ? undefined : context.objects.tlsCredentials(id, endpoint);
  checkCombination(options);
  const settings = settingsOf(options);
  const layers = await loadLayers(settings);
  const port = new SocketPort(settings, context, {
    ...layers,
    ...(credentials === undefined ? {} : { tls: await tlsLayer(options, credentials, context) }),
  });
  try {
    await port.open();
  } catch (error) {
    port.close();
    throw error;
  }
  return port;
}

/** Makes what lies between a connection and the user; their code is loaded when first needed. */
interface Layers {
  readonly tls?: (plain: SocketChannel) => TlsChannel;
  readonly telnet?: () => TelnetDecoder;
  readonly websocket?: () => WebSocketServer;
}

class SocketPort implements ChardevPort {
  readonly #settings: SocketSettings;
  readonly #context: PortContext;
  readonly #queue: OutputQueue;
  readonly #abort = new AbortController();
  readonly #layers: Layers;
  #address: SocketAddress;
  #listener: Listener | undefined;
  /** The connection, for its names; `#channel` is what is said on it. */
  #socket: SocketChannel | undefined;
  #channel: SocketChannel | TlsChannel | undefined;
  #telnet: TelnetDecoder | undefined;
  #websocket: WebSocketServer | undefined;
  #connected = false;
  #attached = false;
  #accept = false;
  /** Readiness is watched; what comes while it is not accepted turns the watch off. */
  #watching = false;
  /** The peer has sent everything; it goes when it has received everything. */
  #ended = false;
  #onFirstPeer: (() => void) | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failureReported = false;
  #closed = false;

  constructor(settings: SocketSettings, context: PortContext, layers: Layers) {
    this.#settings = settings;
    this.#layers = layers;
    this.#context = context;
    this.#address = settings.address;
    if (context.signal.aborted) this.#abort.abort(context.signal.reason);
    context.signal.addEventListener('abort', () => this.#abort.abort(context.signal.reason));
    this.#queue = new OutputQueue({
      memory: context.outputMemory,
      send: (from, at, length) => this.#channel?.send(from, at, length) ?? WOULD_BLOCK,
      wantRoom: (want) => this.#channel?.wantWritable(want),
      onDrain: () => context.events.drained(),
    });
  }

  async open(): Promise<void> {
    const settings = this.#settings;
    const context = this.#context;
    if (settings.server) {
      await this.#listen();
      return;
    }
    if (settings.reconnectSeconds > 0) {
      this.#connectLater();
      return;
    }
    const channel = await connect(this.#address, {
      poller: context.poller,
      signal: this.#abort.signal,
      fdsByNumber: context.origin === 'command-line',
    });
    this.#adopt(channel);
  }

  filename(): string {
    const socket = this.#connected ? this.#socket : undefined;
    return socket === undefined
      ? disconnectedName(this.#settings, this.#address)
      : connectedName(this.#settings, socket.local, socket.remote);
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#connected) return true;
    return this.#send(this.#websocket?.encode(bytes) ?? bytes);
  }

  acceptInput(accept: boolean): void {
    this.#accept = accept;
    if (accept && !this.#watching) this.#watch(true);
  }

  setAttached(attached: boolean): void {
    this.#attached = attached;
    this.#watchHangup();
  }

  whenSent(): Promise<void> {
    return this.#queue.whenEmpty();
  }

  property(name: string): unknown {
    if (name === 'connected') return this.#connected;
    return name === 'addr' ? this.#address : undefined;
  }

  close(): void {
    this.#closed = true;
    this.#abort.abort(new QmpError('The chardev is gone'));
    clearTimeout(this.#retry);
    this.#drop();
    this.#listener?.close({ unlink: true });
  }

  async #listen(): Promise<void> {
    const { origin, poller, log } = this.#context;
    const { address, wait } = this.#settings;
    // The reference takes the empty descriptor for "peers will be handed over", which nobody can do here.
    if (address.type === 'fd' && address.str === '') {
      // The reference waits for ever then.
      if (wait) throw new QmpError('There is no address to wait for a peer at');
      return;
    }
    this.#listener = await listen(address, {
      poller,
      backlog: BACKLOG,
      fdsByNumber: origin === 'command-line',
      accepting: false,
      onConnection: (channel) => {
        this.#listener?.accept(false);
        this.#adopt(channel);
      },
    });
    this.#address = this.#listener.address;
    if (wait) {
      log.error(`info: QEMU waiting for connection on: ${this.filename()}`, { level: 'info' });
    }
    const firstPeer = new Promise<void>((fulfil, reject) => {
      this.#onFirstPeer = fulfil;
      this.#abort.signal.addEventListener('abort', () =>
        reject(this.#abort.signal.reason as Error),
      );
    });
    // Nobody may be waiting for it.
    firstPeer.catch(() => {});
    this.#listener.accept(true);
    if (wait) await firstPeer;
  }

  /** Tries to connect, and goes on trying. */
  #connectLater(): void {
    const { poller, origin, log, id } = this.#context;
    const fdsByNumber = origin === 'command-line';
    connect(this.#address, { poller, signal: this.#abort.signal, fdsByNumber }).then(
      (channel) => {
        this.#failureReported = false;
        if (this.#closed) channel.close();
        else this.#adopt(channel);
      },
      (error: unknown) => {
        if (this.#closed) return;
        if (!this.#failureReported) {
          const reason = error instanceof Error ? error.message : String(error);
          sayWithoutLocation(log, () =>
            log.error(`Unable to connect character device ${id}: ${reason}`),
          );
          this.#failureReported = true;
        }
        this.#retryLater();
      },
    );
  }

  #retryLater(): void {
    clearTimeout(this.#retry);
    const delay = this.#settings.reconnectSeconds * 1000;
    this.#retry = setTimeout(() => this.#connectLater(), delay);
  }

  /** A peer is there. */
  #adopt(socket: SocketChannel): void {
    this.#socket = socket;
    this.#channel = socket;
    this.#ended = false;
    this.#watching = false;
    if (this.#settings.noDelay) socket.setNoDelay();
    if (this.#layers.tls === undefined) {
      socket.onHangup = () => this.#disconnect();
      this.#begin(socket);
    } else {
      this.#secure(socket, this.#layers.tls);
    }
    this.#onFirstPeer?.();
  }

  /** The peer counts when it has come through TLS; until then the user hears nothing of it. */
  #secure(socket: SocketChannel, tls: (plain: SocketChannel) => TlsChannel): void {
    const refused = (error: unknown): void => {
      const reason = error instanceof Error ? error.message : String(error);
      // As the reference, which is silent about it.
      this.#context.log.debug(`chardev ${this.#context.id}: ${reason}`, { peer: socket.peer });
      this.#disconnectSoon();
    };
    try {
      const channel = tls(socket);
      this.#channel = channel;
      const current = (): boolean => this.#channel === channel;
      channel.ready.then(
        () => {
          if (current()) this.#begin(channel);
        },
        (error: unknown) => {
          if (current()) refused(error);
        },
      );
    } catch (error) {
      refused(error);
    }
  }

  #begin(channel: SocketChannel | TlsChannel): void {
    channel.onReadable = () => this.#readable();
    channel.onWritable = () => this.#writable();
    this.#telnet = this.#layers.telnet?.();
    this.#websocket = this.#layers.websocket?.();
    if (this.#websocket === undefined) this.#opened();
    else this.#watch(true);
  }

  #opened(): void {
    this.#connected = true;
    if (this.#telnet !== undefined) this.write(this.#telnet.greeting);
    this.#context.events.opened();
    if (this.#accept) this.#watch(true);
    this.#watchHangup();
  }

  /**
   * With no user nothing is read, so the end of the stream would not be noticed. A chardev of the command line gets its user
   * later: what a peer sends before it leaves is for that one.
   */
  #watchHangup(): void {
    const alone = this.#connected && !this.#attached && this.#context.origin === 'qmp';
    if (this.#channel === this.#socket) this.#socket?.wantHangup(alone);
  }

  #watch(watch: boolean): void {
    this.#watching = watch;
    this.#channel?.wantReadable(watch && !this.#ended);
  }

  #readable(): void {
    // Before a WebSocket is upgraded, what comes is not for the user.
    if (!this.#accept && this.#connected) return this.#watch(false);
    const { inputMemory } = this.#context;
    const { bytes } = inputMemory;
    let count: number;
    try {
      count = this.#channel?.receive(inputMemory, 0, bytes.length) ?? WOULD_BLOCK;
    } catch {
      return this.#disconnect();
    }
    if (count === WOULD_BLOCK) return;
    if (count > 0) this.#received(bytes.subarray(0, count));
    else this.#end();
  }

  #received(bytes: Uint8Array): void {
    if (this.#websocket === undefined) return this.#input(bytes);
    const { input, replies, ended } = this.#websocket.receive(bytes);
    for (const reply of replies) {
      // A peer that goes on sending pings but does not read need not be answered every one (RFC 6455, 5.5.3).
      if (ended || this.#queue.pending < HIGH_WATER_BYTES) this.#send(reply);
    }
    if (!this.#connected && this.#websocket.upgraded) this.#opened();
    for (const payload of input) this.#input(payload);
    if (ended) this.#end();
  }

  #input(bytes: Uint8Array): void {
    const input = this.#telnet?.decode(bytes) ?? bytes;
    if (input.length > 0) this.#context.events.input(input);
  }

  #writable(): void {
    try {
      this.#queue.flush();
    } catch {
      return this.#disconnect();
    }
    if (this.#ended && this.#queue.pending === 0) this.#disconnect();
  }

  #send(bytes: Uint8Array): boolean {
    try {
      return this.#queue.write(bytes);
    } catch {
      // What the peer sent before it left is still to be read; the end of it comes to #readable.
      this.#queue.clear();
      if (!this.#accept) this.#disconnectSoon();
      return true;
    }
  }

  /** The peer sends no more, but may still be reading. */
  #end(): void {
    if (this.#queue.pending === 0) return this.#disconnect();
    this.#ended = true;
    this.#watch(false);
  }

  /** Not from within a write of the user. */
  #disconnectSoon(): void {
    const channel = this.#channel;
    setImmediate(() => {
      if (channel === this.#channel && channel !== undefined) this.#disconnect();
    });
  }

  #disconnect(): void {
    const connected = this.#connected;
    this.#drop();
    if (connected) this.#context.events.closed();
    if (this.#closed) return;
    this.#listener?.accept(true);
    if (!this.#settings.server && this.#settings.reconnectSeconds > 0) this.#retryLater();
  }

  /** Lets go of the peer. */
  #drop(): void {
    this.#connected = false;
    this.#queue.clear();
    this.#channel?.close();
    this.#channel = undefined;
    this.#socket = undefined;
    this.#telnet = undefined;
    this.#websocket = undefined;
  }
}

async function tlsLayer(
  options: ChardevSocket,
  credentials: TlsCredentials,
  context: PortContext,
): Promise<(plain: SocketChannel) => TlsChannel> {
  const { tlsOfSocket } = await import('./socket-tls.ts');
  return tlsOfSocket(options, credentials, context);
}

async function loadLayers(settings: SocketSettings): Promise<Layers> {
  const layers: { -readonly [Name in keyof Layers]: Layers[Name] } = {};
  // The reference's client says nothing of telnet.
  if (settings.server && (settings.telnet || settings.tn3270)) {
    const { TelnetDecoder } = await import('./telnet.ts');
    layers.telnet = () => new TelnetDecoder({ tn3270: settings.tn3270 });
  }
  if (settings.websocket) {
    const { WebSocketServer } = await import('./websocket.ts');
    layers.websocket = () => new WebSocketServer();
  }
  return layers;
}
