// The NBD server: a listening socket, the exports that clients may choose, and the connections there are.

import type { Logger } from '../../base/log.ts';
import type { Trace } from '../../base/trace.ts';
import type { ByteChannel } from '../../net/byte-channel.ts';
import { type Listener, listen } from '../../net/listener.ts';
import type { SocketAddress } from '../../net/socket-address.ts';
import { allocate, release } from '../../sys/memory.ts';
import type { Poller } from '../../sys/poller.ts';
import { AdaptivePoll } from '../adaptive-poll.ts';
import { BufferPool } from './buffer-pool.ts';
import { NbdClient } from './client.ts';
import type { ClientInventory } from './client-inventory.ts';
import type { ExportRegistry, NbdExport } from './nbd-export.ts';
import type { ExportDirectory } from './negotiation.ts';
import { PipePool } from './pipe-pool.ts';
import type { NbdTls } from './tls.ts';
import { Turns } from './turns.ts';

/** Connections at once, unless the user says otherwise. */
export const DEFAULT_MAX_CONNECTIONS = 100;

/** Seconds in which a client must have chosen an export, unless the user says otherwise. */
export const DEFAULT_HANDSHAKE_MAX_SECONDS = 10;

/** As many as the kernel lets wait: the server is there to stay, however few connections it takes at once. */
const BACKLOG = 4096;

export interface NbdServerSettings {
  readonly address: SocketAddress;
  /** 0: no limit. */
  readonly maxConnections: number;
  /** 0: no limit. */
  readonly handshakeMaxSeconds: number;
  /** Whether an `fd` address is a descriptor number (command line) or a monitor's name for one. */
  readonly fdsByNumber: boolean;
  /** Makes TLS what clients must begin with. Called when the server listens, but takes no clients yet; may throw. */
  readonly secure?: () => NbdTls;
}

export class NbdServer implements ExportRegistry, ExportDirectory {
  readonly maxConnections: number;
  readonly handshakeMaxSeconds: number;
  readonly log: Logger;
  readonly trace: Trace;
  readonly inventory: ClientInventory;
  readonly pool = new BufferPool({ allocate, release });
  readonly pipes = new PipePool();
  readonly turns = new Turns();
  readonly poll = new AdaptivePoll();
  /** Those that clients can find. */
  readonly #exports: NbdExport[] = [];
  /** Those that there are. */
  readonly #allExports = new Set<NbdExport>();
  readonly #clients = new Set<NbdClient>();
  #tls: NbdTls | undefined;
  #listener: Listener | undefined;
  #onEmpty: (() => void) | undefined;

  constructor(options: {
    readonly maxConnections: number;
    readonly handshakeMaxSeconds: number;
    readonly log: Logger;
    readonly trace: Trace;
    readonly inventory: ClientInventory;
  }) {
    this.maxConnections = options.maxConnections;
    this.handshakeMaxSeconds = options.handshakeMaxSeconds;
    this.log = options.log;
    this.trace = options.trace;
    this.inventory = options.inventory;
  }

  /** A server that listens. Rejects QmpError with the reference's texts. */
  static async start(
    settings: NbdServerSettings,
    options: {
      readonly log: Logger;
      readonly trace: Trace;
      readonly poller: Poller;
      readonly inventory: ClientInventory;
    },
  ): Promise<NbdServer> {
    const { log, trace, inventory } = options;
    const server = new NbdServer({ ...settings, log, trace, inventory });
    server.#listener = await listen(settings.address, {
      poller: options.poller,
      backlog: BACKLOG,
      fdsByNumber: settings.fdsByNumber,
      accepting: false,
      onConnection: (channel) => {
        channel.setNoDelay();
        channel.enlargeSendBuffer();
        server.serve(channel);
      },
    });
    try {
      server.#tls = settings.secure?.();
    } catch (error) {
      server.stopListening({ unlink: true });
      throw error;
    }
    server.#acceptWhileRoom();
    return server;
  }

  get tls(): NbdTls | undefined {
    return this.#tls;
  }

  /** What it is bound to; undefined for one that does not listen. */
  get address(): SocketAddress | undefined {
    return this.#listener?.address;
  }

  /** Takes over a connection. */
  serve(channel: ByteChannel): void {
    this.trace.nbd_server_client_connected.log({ peer: channel.peer });
    const client = new NbdClient({
      channel,
      server: this,
      onClosed: () => {
        this.#clients.delete(client);
        this.#acceptWhileRoom();
        if (this.#clients.size === 0) this.#onEmpty?.();
      },
    });
    this.#clients.add(client);
    this.#acceptWhileRoom();
    client.start();
  }

  /** In the order in which they came. */
  clients(): Iterable<NbdClient> {
    return this.#clients;
  }

  list(): Iterable<NbdExport> {
    return [...this.#exports];
  }

  find(wireName: string): NbdExport | undefined {
    return this.#exports.find((known) => known.wireName === wireName);
  }

  addExport(added: NbdExport): void {
    this.#exports.push(added);
    this.#allExports.add(added);
  }

  hideExport(hidden: NbdExport): void {
    const index = this.#exports.indexOf(hidden);
    if (index >= 0) this.#exports.splice(index, 1);
  }

  removeExport(removed: NbdExport): void {
    this.hideExport(removed);
    this.#allExports.delete(removed);
  }

  forgetData(): void {
    for (const known of this.#allExports) known.dataRanges.forget();
  }

  /** Takes no more connections. Idempotent. */
  stopListening(options: { readonly unlink: boolean }): void {
    this.#listener?.close(options);
  }

  /** Drops every client, wherever it is in the protocol, and waits until their requests have ended. */
  async close(options: { readonly unlink: boolean }): Promise<void> {
    this.stopListening(options);
    for (const client of this.#clients) client.close();
    if (this.#clients.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
    }
    this.pool.trim();
    this.pipes.trim();
  }

  /** The connection after the last one allowed stays in the backlog, without a greeting. */
  #acceptWhileRoom(): void {
    const room = this.maxConnections === 0 || this.#clients.size < this.maxConnections;
    this.#listener?.accept(room);
  }
}
