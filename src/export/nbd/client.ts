// One peer of the server: from the greeting to its last request. Has it negotiate, hands over to the transmission, and is the
// one place where a connection ends.

import { IoError } from '../../base/errors.ts';
import type { LogFields, Logger } from '../../base/log.ts';
import type { Trace } from '../../base/trace.ts';
import type { ByteChannel } from '../../net/byte-channel.ts';
import type { AdaptivePoll } from '../adaptive-poll.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { ClientInventory, InventoryClient } from './client-inventory.ts';
import { Input } from './input.ts';
import type { ExportClient, NbdExport } from './nbd-export.ts';
import type { ExportDirectory, Negotiated } from './negotiation.ts';
import { Negotiator } from './negotiator.ts';
import { Output } from './output.ts';
import type { PipePool } from './pipe-pool.ts';
import type { NbdTls } from './tls.ts';
import { Traffic } from './traffic.ts';
import { Transmission } from './transmission.ts';
import type { Turns } from './turns.ts';

/** What a connection needs of its server. */
export interface ClientHost extends ExportDirectory {
  readonly pool: BufferPool;
  readonly pipes: PipePool;
  readonly turns: Turns;
  /** For handshakes; a connection that serves requests has its own. */
  readonly poll: AdaptivePoll;
  readonly log: Logger;
  readonly trace: Trace;
  /** 0: no limit. */
  readonly handshakeMaxSeconds: number;
  readonly inventory: ClientInventory;
  /** Whether clients must begin TLS, and how they do. */
  readonly tls: NbdTls | undefined;
}

export interface NbdClientOptions {
  readonly channel: ByteChannel;
  readonly server: ClientHost;
  /** Called once, when no request is under way any more and the channel is closed. */
  readonly onClosed: () => void;
}

export class NbdClient implements ExportClient, InventoryClient {
  readonly id: number;
  readonly connectedAt = Date.now();
  readonly traffic = new Traffic();
  readonly #options: NbdClientOptions;
  readonly #input: Input;
  readonly #output: Output;
  #state: 'handshake' | 'transmission' | 'closing' | 'closed' = 'handshake';
  readonly #negotiator: Negotiator;
  #export: NbdExport | undefined;
  #transmission: Transmission | undefined;

  constructor(options: NbdClientOptions) {
    this.#options = options;
    this.id = options.server.inventory.nextId();
    this.#input = new Input(options.server.pool, options.server.inventory);
    this.#output = new Output(options.server.pool);
    this.#negotiator = new Negotiator({
      channel: options.channel,
      input: this.#input,
      output: this.#output,
      server: options.server,
      onSecured: () => this.#listen(),
      onNegotiated: (negotiated) => this.#transmit(negotiated),
      onLeft: () => this.#leftInOrder(),
      onFailed: (text) => this.#fail(text),
      guarded: (work) => this.#guarded(work),
    });
  }

  get #channel(): ByteChannel {
    return this.#negotiator.channel;
  }

  get peer(): string {
    return this.#channel.peer;
  }

  get identity(): string | undefined {
    return this.#channel.identity;
  }

  get heard(): number {
    return this.#input.heard;
  }

  get state(): InventoryClient['state'] {
    return this.#state;
  }

  get export(): NbdExport | undefined {
    return this.#export;
  }

  get requestsInFlight(): number {
    return this.#transmission?.requestsInFlight ?? 0;
  }

  /** Greets and begins to negotiate. */
  start(): void {
    this.#listen();
    this.#negotiator.start();
  }

  /** Disconnects at once; onClosed follows when its requests have ended. Idempotent. */
  close(): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#state = 'closing';
    this.#negotiator.stop();
    this.#channel.onReadable = () => {};
    this.#channel.onWritable = () => {};
    this.#channel.shutdown();
    if (this.#transmission === undefined) this.#finishClosing();
    else this.#transmission.stop();
  }

  refuseRequests(): void {
    this.#transmission?.refuseRequests();
  }

  setDrained(drained: boolean): void {
    this.#transmission?.setDrained(drained);
  }

  #readable(): void {
    if (this.#state === 'transmission') this.#transmission?.readable();
    else this.#negotiator.readable();
  }

  #writable(): void {
    if (this.#state === 'transmission') this.#transmission?.writable();
    else this.#negotiator.writable();
  }

  #listen(): void {
    this.#channel.onReadable = () => this.#guarded(() => this.#readable());
    this.#channel.onWritable = () => this.#guarded(() => this.#writable());
  }

  /** The client has ended the handshake. As the reference, no line tells of one that did not want TLS. */
  #leftInOrder(): void {
    const { server } = this.#options;
    if (server.tls !== undefined && this.#channel === this.#options.channel) {
      server.log.debug('NBD client left without TLS, which is required', { peer: this.peer });
    }
    this.#endHandshake();
  }

  #fail(text: string): void {
    this.#options.server.log.error(text, this.#logFields());
    this.#endHandshake();
  }

  /** The replies that there are still leave, if the peer takes them at once. */
  #endHandshake(): void {
    try {
      this.#output.flush(this.#channel);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
    }
    this.close();
  }

  #transmit(negotiated: Negotiated): void {
    const chosen = negotiated.export;
    if (chosen.common.shuttingDown) {
      this.close();
      return;
    }
    this.#export = chosen;
    chosen.addClient(this);
    this.#state = 'transmission';
    this.#transmission = new Transmission({
      channel: this.#channel,
      input: this.#input,
      output: this.#output,
      pool: this.#options.server.pool,
      pipes: this.#options.server.pipes,
      turns: this.#options.server.turns,
      target: chosen,
      trace: this.#options.server.trace,
      alignment: negotiated.alignment,
      structuredReply: negotiated.structuredReply,
      extendedHeaders: negotiated.extendedHeaders,
      traffic: this.traffic,
      contexts: negotiated.contexts,
      onEnd: (reason) => {
        if (reason !== undefined) {
          this.#options.server.log.error(`Disconnect client, due to: ${reason}`, this.#logFields());
        }
        this.close();
      },
      onFault: (error) => this.#fault(error),
      onIdle: () => this.#finishClosing(),
    });
    this.#options.server.inventory.connected(this);
    this.#transmission.pump();
  }

  /** Lets go of everything, in a turn of its own: what a command closes ends after the command. */
  #finishClosing(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    setImmediate(() => {
      if (this.#transmission === undefined) {
        this.#input.discard();
        this.#output.discard();
      }
      this.#channel.close();
      this.#options.server.inventory.disconnected(this);
      this.#options.server.turns.forget(this.#channel);
      this.#export?.removeClient(this);
      this.#options.onClosed();
    });
  }

  /** Who it is, for logs that can say so. */
  #logFields(): LogFields {
    const { peer, identity } = this;
    return identity === undefined ? { peer } : { peer, identity };
  }

  /** A fault of ours ends this connection, and nothing else. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(error);
    }
  }

  #fault(error: unknown): void {
    const stack = error instanceof Error ? error.stack : undefined;
    this.#options.server.log.error(
      `Disconnect client, due to: unexpected failure: ${String(error)}`,
      { stack, ...this.#logFields() },
    );
    this.close();
  }
}
