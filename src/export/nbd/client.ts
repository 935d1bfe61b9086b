// One peer of the server: from the greeting to its last request. Runs the handshake, hands over to the transmission, and is
// the one place where a connection ends.

import { IoError } from '../../base/errors.ts';
import type { LogFields, Logger } from '../../base/log.ts';
import type { Trace } from '../../base/trace.ts';
import { type ByteChannel, socketFailures, WOULD_BLOCK } from '../../net/byte-channel.ts';
import { NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES } from '../../net/nbd/protocol.ts';
import { encodeGreeting } from '../../net/nbd/wire.ts';
import type { AdaptivePoll } from '../adaptive-poll.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { ClientInventory, InventoryClient } from './client-inventory.ts';
import { failedRead, negotiate } from './handshake.ts';
import { Input } from './input.ts';
import type { ExportClient, NbdExport } from './nbd-export.ts';
import {
  type ExportDirectory,
  Handshake,
  HandshakeError,
  type Negotiated,
  type Step,
  type Steps,
} from './negotiation.ts';
import { Output } from './output.ts';
import type { NbdTls } from './tls.ts';
import { Traffic } from './traffic.ts';
import { Transmission } from './transmission.ts';
import type { Turns } from './turns.ts';

/** Bytes of replies beyond which a handshake waits until the peer has taken them. */
const MAX_UNSENT = 64 * 1024;

/** What is logged of a client that does not come to an end with the handshake of TLS. */
const INTERRUPTED_TLS = 'TLS handshake failed: The TLS connection was non-properly terminated.';

const greeting = encodeGreeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);

/** What a connection needs of its server. */
export interface ClientHost extends ExportDirectory {
  readonly pool: BufferPool;
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
  #channel: ByteChannel;
  readonly #input: Input;
  readonly #output: Output;
  #state: 'handshake' | 'transmission' | 'closing' | 'closed' = 'handshake';
  #handshake: Steps<Negotiated | undefined> | undefined;
  #step: Step = { length: 0, what: undefined };
  #timer: NodeJS.Timeout | undefined;
  /** The turn is over; the next one is under way. */
  #resting = false;
  #export: NbdExport | undefined;
  #transmission: Transmission | undefined;

  constructor(options: NbdClientOptions) {
    this.#options = options;
    this.id = options.server.inventory.nextId();
    this.#channel = options.channel;
    this.#input = new Input(options.server.pool);
    this.#output = new Output(options.server.pool);
  }

  get peer(): string {
    return this.#channel.peer;
  }

  get identity(): string | undefined {
    return this.#channel.identity;
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
    const { server } = this.#options;
    this.#listen();
    if (server.handshakeMaxSeconds > 0) {
      this.#timer = setTimeout(() => this.#tooSlow(), server.handshakeMaxSeconds * 1000);
    }
    this.#guarded(() => {
      const handshake = new Handshake({
        exports: server,
        trace: server.trace,
        tls: server.tls === undefined ? 'none' : 'required',
        send: (bytes) => this.#output.append(bytes),
      });
      this.#output.append(greeting);
      this.#handshake = negotiate(handshake);
      this.#advance(Buffer.alloc(0));
      this.#negotiate();
    });
  }

  /** Disconnects at once; onClosed follows when its requests have ended. Idempotent. */
  close(): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#state = 'closing';
    clearTimeout(this.#timer);
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
    else this.#negotiate();
  }

  #writable(): void {
    if (this.#state === 'transmission') {
      this.#transmission?.writable();
      return;
    }
    this.#channel.wantWritable(false);
    this.#channel.wantReadable(true);
    this.#negotiate();
  }

  /** Takes the handshake as far as what was received goes. */
  #negotiate(): void {
    if (this.#resting) return;
    const turn = this.#options.server.turns.next(this.#channel);
    for (let steps = 0; this.#state === 'handshake'; steps++) {
      if (this.#output.length >= MAX_UNSENT && !this.#flush()) return;
      if (steps === turn) {
        this.#rest();
        return;
      }
      const { length, startTls } = this.#step;
      if (startTls === true) {
        if (this.#flush()) this.#startTls();
        return;
      }
      if (this.#input.length >= length) {
        this.#advance(this.#takeInput(length));
        continue;
      }
      if (!this.#flush() || !this.#receive()) return;
    }
  }

  #listen(): void {
    this.#channel.onReadable = () => this.#guarded(() => this.#readable());
    this.#channel.onWritable = () => this.#guarded(() => this.#writable());
  }

  /** Hands the connection over to TLS, and goes on when it is ready. */
  #startTls(): void {
    const { server } = this.#options;
    const received = Buffer.from(this.#takeInput(this.#input.length));
    this.#input.releaseIdle();
    this.#output.releaseIdle();
    const failed = (error: unknown): void => {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#state === 'handshake') this.#failHandshake(new HandshakeError(reason));
    };
    try {
      const secured = server.tls?.start(this.#channel, received);
      if (secured === undefined) throw new HandshakeError('TLS not configured');
      this.#channel = secured;
      secured.ready.then(() => this.#guarded(() => this.#goOn()), failed);
    } catch (error) {
      failed(error);
    }
  }

  #goOn(): void {
    if (this.#state !== 'handshake') return;
    this.#listen();
    this.#channel.wantReadable(true);
    this.#advance(Buffer.alloc(0));
    this.#negotiate();
  }

  #rest(): void {
    this.#resting = true;
    setImmediate(() => {
      this.#resting = false;
      this.#guarded(() => this.#negotiate());
    });
  }

  #takeInput(length: number): Buffer {
    const { buffer, start } = this.#input;
    if (length === 0 || buffer === undefined) return Buffer.alloc(0);
    this.#input.start += length;
    return buffer.bytes.subarray(start, start + length);
  }

  /** Gives the handshake the bytes that it waits for. */
  #advance(bytes: Buffer): void {
    if (this.#handshake === undefined) return;
    let result: IteratorResult<Step, Negotiated | undefined>;
    try {
      result = this.#handshake.next(bytes);
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error;
      this.#failHandshake(error);
      return;
    }
    if (!result.done) {
      this.#step = result.value;
      this.#input.makeRoom(result.value.length);
    } else if (result.value === undefined) {
      this.#leftInOrder();
    } else {
      this.#transmit(result.value);
    }
  }

  /** False when the peer takes no more for now, or is gone. */
  #flush(): boolean {
    try {
      if (this.#output.flush(this.#channel)) return true;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      const text = `${(this.#channel.failures ?? socketFailures).write}: ${error.reason}`;
      // The greeting is not part of what the reference calls option negotiation.
      if (this.#step.what === 'flags') this.#fail(`write failed: ${text}`);
      else this.#failHandshake(new HandshakeError(text));
      return false;
    }
    this.#channel.wantReadable(false);
    this.#channel.wantWritable(true);
    return false;
  }

  /** False when there is nothing to go on with. */
  #receive(): boolean {
    const { server } = this.#options;
    let received: number;
    try {
      received = this.#input.receive(this.#channel, Infinity);
      if (received === WOULD_BLOCK && server.turns.alone && this.#channel.unbuffered === true) {
        received = server.poll.again(() => this.#input.receive(this.#channel, Infinity));
      }
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#failHandshake(failedRead(this.#step, error, this.#channel.failures));
      return false;
    }
    if (received === WOULD_BLOCK) {
      this.#channel.wantReadable(true);
      this.#input.releaseIdle();
      this.#output.releaseIdle();
      return false;
    }
    if (received > 0) return true;
    this.#failHandshake(failedRead(this.#step, undefined));
    return false;
  }

  #tooSlow(): void {
    this.#options.server.trace.nbd_handshake_timer_cb.log({ peer: this.#channel.peer });
    const error =
      this.#step.startTls === true
        ? new HandshakeError(INTERRUPTED_TLS)
        : failedRead(this.#step, undefined);
    this.#guarded(() => this.#failHandshake(error));
  }

  /** The client has ended the handshake. As the reference, no line tells of one that did not want TLS. */
  #leftInOrder(): void {
    const { server } = this.#options;
    if (server.tls !== undefined && this.#channel === this.#options.channel) {
      server.log.debug('NBD client left without TLS, which is required', { peer: this.peer });
    }
    this.#endHandshake();
  }

  #failHandshake(error: HandshakeError): void {
    this.#fail(`option negotiation failed: ${error.message}`);
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
    clearTimeout(this.#timer);
    this.#export = chosen;
    chosen.addClient(this);
    this.#state = 'transmission';
    this.#handshake = undefined;
    this.#transmission = new Transmission({
      channel: this.#channel,
      input: this.#input,
      output: this.#output,
      pool: this.#options.server.pool,
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
