// A socket chardev. As a server it has one peer at a time and leaves further ones in the backlog until that one is gone; as a
// client it may try again and again.
//
//   disconnected --peer--> connecting --WebSocket upgrade, if any--> connected --end of stream, error--> disconnected

import { sayWithoutLocation } from '../../base/log.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { ChardevSocket } from '../../qapi/generated/types.ts';
import { connect } from '../connect.ts';
import { type Listener, listen } from '../listener.ts';
import type { SocketAddress } from '../socket-address.ts';
import type { SocketChannel } from '../socket-channel.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { OutputQueue } from './output-queue.ts';
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
  const tlsCreds = options['tls-creds'];
  if (tlsCreds !== undefined) {
    throw new QmpError(
      context.hasObject(tlsCreds)
        ? `Object with id '${tlsCreds}' is not TLS credentials`
        : `No TLS credentials with id '${tlsCreds}'`,
    );
  }
  checkCombination(options);
  const port = new SocketPort(settingsOf(options), context);
  try {
    await port.open();
  } catch (error) {
    port.close();
    throw error;
  }
  return port;
}

/** Makes what interprets one connection's bytes; their code is loaded when first needed. */
interface Codecs {
  readonly telnet?: () => TelnetDecoder;
  readonly websocket?: () => WebSocketServer;
}

class SocketPort implements ChardevPort {
  readonly #settings: SocketSettings;
  readonly #context: PortContext;
  readonly #queue: OutputQueue;
  readonly #abort = new AbortController();
  #codecs: Codecs = {};
  #address: SocketAddress;
  #listener: Listener | undefined;
  #channel: SocketChannel | undefined;
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

  constructor(settings: SocketSettings, context: PortContext) {
    this.#settings = settings;
    this.#context = context;
    this.#address = settings.address;
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
    this.#codecs = await loadCodecs(settings);
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
    const channel = this.#connected ? this.#channel : undefined;
    return channel === undefined
      ? disconnectedName(this.#settings, this.#address)
      : connectedName(this.#settings, channel.local, channel.remote);
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
    if (address.type === 'fd' && address.str === '') return;
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
  #adopt(channel: SocketChannel): void {
    this.#channel = channel;
    this.#ended = false;
    this.#watching = false;
    if (this.#settings.noDelay) channel.setNoDelay();
    channel.onReadable = () => this.#readable();
    channel.onHangup = () => this.#disconnect();
    channel.onWritable = () => this.#writable();
    this.#telnet = this.#codecs.telnet?.();
    this.#websocket = this.#codecs.websocket?.();
    if (this.#websocket === undefined) this.#opened();
    else this.#watch(true);
    this.#onFirstPeer?.();
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
    this.#channel?.wantHangup(alone);
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
    for (const reply of replies) this.#send(reply);
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
    this.#telnet = undefined;
    this.#websocket = undefined;
  }
}

async function loadCodecs(settings: SocketSettings): Promise<Codecs> {
  const codecs: { -readonly [Name in keyof Codecs]: Codecs[Name] } = {};
  // The reference's client says nothing of telnet.
  if (settings.server && (settings.telnet || settings.tn3270)) {
    const { TelnetDecoder } = await import('./telnet.ts');
    codecs.telnet = () => new TelnetDecoder({ tn3270: settings.tn3270 });
  }
  if (settings.websocket) {
    const { WebSocketServer } = await import('./websocket.ts');
    codecs.websocket = () => new WebSocketServer();
  }
  return codecs;
}
