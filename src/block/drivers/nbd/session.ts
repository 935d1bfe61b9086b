// A node's dealings with its server over all connections, and what becomes of requests when one is lost:
//
//               a connection is lost, reconnect-delay > 0            the delay is over
//   connected ------------------------------------------> waiting -------------------> failing
//       |  ^                                                 |                            |
//       |  +---------- a new connection is adopted ----------+----------------------------+
//       |                                     (lost with reconnect-delay 0: to failing at once)
//       +-- the server breaks a rule --> dead                      any -- close() --> closed
//
// waiting: requests are kept, those that were under way first, and made on the next connection. failing: they fail with EIO.
// As in the reference attempts begin with the first request that needs one, and go on until one succeeds.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { OpenContext } from '../../driver-context.ts';
import type { ClientRequest } from './client-request.ts';
import { type ConnectionEnd, NbdConnection } from './connection.ts';
import { establishWithRetries } from './connector.ts';
import { type Established, establish } from './handshake.ts';
import type { ServerInfo } from './negotiation.ts';
import type { NbdOptions } from './options.ts';

/** Milliseconds for one attempt to reconnect. */
const ATTEMPT_MS = 60_000;

export interface SessionOptions {
  readonly nodeName: string;
  readonly options: NbdOptions;
  readonly context: OpenContext;
  /** Looks at what a server offers; throws when it is not good enough (any more). */
  readonly accept: (info: ServerInfo, before: ServerInfo | undefined) => void;
}

export class NbdSession {
  readonly #options: SessionOptions;
  /** The graph is being closed: nobody wants to wait for a server that may never come back. */
  readonly #giveUpWaiting = (): void => this.#delayOver();
  readonly #abort = new AbortController();
  #state: 'connecting' | 'connected' | 'waiting' | 'failing' | 'dead' | 'closed' = 'connecting';
  #connection: NbdConnection | undefined;
  #info: ServerInfo | undefined;
  /** Requests for which there was no room, or no connection; in the order in which they came. */
  #queue: ClientRequest[] = [];
  #attempting = false;
  #delayTimer: NodeJS.Timeout | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** What the server offered last. */
  get info(): ServerInfo {
    if (this.#info === undefined) throw new Error('Never connected');
    return this.#info;
  }

  /** The first connection. Rejects QmpError, or IoError from `accept`; the session is of no use then. */
  async open(): Promise<void> {
    const { options, context } = this.#options;
    const { signal } = context;
    if (options.openTimeout > 0) {
      this.#adopt(await this.#firstOfMany(options.openTimeout));
    } else {
      this.#adopt(await establish(options.target, { ...context, signal }));
    }
    signal.addEventListener('abort', this.#giveUpWaiting, { once: true });
  }

  /** Whether the data of a write may be in a pipe: once they are out of it, the request cannot be made again. */
  get sendsFromPipes(): boolean {
    return this.#options.options.reconnectDelay === 0 && this.#connection?.sendsFromPipes === true;
  }

  /** Makes a request. Throws IoError when there is no server to ask. */
  submit(request: ClientRequest): void {
    if (this.#state === 'connected') {
      if (this.#queue.length === 0 && this.#connection?.hasRoom === true) {
        this.#connection.submit(request);
        return;
      }
      this.#queue.push(request);
      this.#feed();
    } else if (this.#state === 'waiting') {
      this.#queue.push(request);
      this.#reconnect();
    } else {
      if (this.#state === 'failing') this.#reconnect();
      throw request.errorOf();
    }
  }

  /** Ends the connection, or the search for one. */
  close(): void {
    this.#state = 'closed';
    this.#abort.abort(new IoError(errno.ESHUTDOWN, { syscall: 'NBD connect' }));
    clearTimeout(this.#delayTimer);
    this.#options.context.signal.removeEventListener('abort', this.#giveUpWaiting);
    this.#connection?.close();
    this.#connection = undefined;
    this.#failQueue();
  }

  /** A connection of which the first attempt, or one of those after it, has come. */
  async #firstOfMany(timeout: number): Promise<Established> {
    const { options, context } = this.#options;
    let last: unknown = new QmpError('Connection attempt cancelled by timeout');
    let found: Established | undefined;
    const late = AbortSignal.timeout(timeout);
    const signal = AbortSignal.any([context.signal, late]);
    try {
      await establishWithRetries(
        options.target,
        { ...context, signal },
        {
          adopt: (established) => {
            found = established;
          },
          onFailure: (error) => {
            last = error;
          },
        },
      );
    } catch (error) {
      throw late.aborted && !context.signal.aborted ? last : error;
    }
    return found as Established;
  }

  /** Throws when the server will not do; the connection is closed then. */
  #adopt({ channel, info }: Established): void {
    const { context, accept, nodeName } = this.#options;
    const connection = new NbdConnection({
      channel,
      info,
      allocate: context.allocate,
      onRoom: () => this.#feed(),
      onEnd: (end, unanswered) => this.#ended(end, unanswered),
    });
    try {
      accept(info, this.#info);
    } catch (error) {
      connection.close();
      throw error;
    }
    context.trace.nbd_client_handshake_success.log({ node: nodeName });
    clearTimeout(this.#delayTimer);
    this.#delayTimer = undefined;
    this.#info = info;
    this.#connection = connection;
    this.#state = 'connected';
    this.#feed();
  }

  /** Makes the requests that waited. */
  #feed(): void {
    while (this.#connection?.hasRoom === true) {
      const request = this.#queue.shift();
      if (request === undefined) return;
      this.#connection.submit(request);
    }
  }

  #ended(end: ConnectionEnd, unanswered: readonly ClientRequest[]): void {
    const { context, options, nodeName } = this.#options;
    context.trace.nbd_client_connection_end.log({
      node: nodeName,
      why: end.why,
      reason: end.reason,
    });
    this.#connection = undefined;
    if (end.why === 'fault') {
      context.log.error(`NBD server of node '${nodeName}': ${end.reason}`);
      this.#state = 'dead';
    } else {
      const waits = options.reconnectDelay > 0 && !context.signal.aborted;
      this.#state = waits ? 'waiting' : 'failing';
    }
    const waited = this.#queue.length > 0;
    for (const request of unanswered) request.restart();
    this.#queue.unshift(...unanswered);
    if (this.#state === 'waiting') {
      if (this.#queue.length > 0) this.#reconnect();
      return;
    }
    this.#failQueue();
    // They would have come upon a connection that is gone.
    if (this.#state === 'failing' && waited) this.#reconnect();
  }

  #failQueue(): void {
    for (const request of this.#queue.splice(0)) request.fail();
  }

  /** Looks for a new connection, if that is not under way. */
  #reconnect(): void {
    const { options, context, nodeName } = this.#options;
    if (this.#state === 'waiting' && this.#delayTimer === undefined) {
      this.#delayTimer = setTimeout(() => this.#delayOver(), options.reconnectDelay);
    }
    if (this.#attempting) return;
    this.#attempting = true;
    context.trace.nbd_reconnect_attempt.log({ node: nodeName });
    establishWithRetries(
      options.target,
      { ...context, signal: this.#abort.signal },
      {
        attemptMs: ATTEMPT_MS,
        adopt: (established) => this.#readopt(established),
        onFailure: (error) => {
          const reason = error instanceof Error ? error.message : String(error);
          context.trace.nbd_reconnect_attempt_result.log({ node: nodeName, reason });
        },
      },
    ).then(
      () => {},
      // Only the end of the session ends the search.
      () => {},
    );
  }

  #readopt(established: Established): void {
    // What was lost meanwhile is looked for anew.
    this.#attempting = false;
    try {
      this.#adopt(established);
    } catch (error) {
      this.#attempting = true;
      throw error;
    }
  }

  #delayOver(): void {
    clearTimeout(this.#delayTimer);
    this.#delayTimer = undefined;
    if (this.#state !== 'waiting') return;
    this.#state = 'failing';
    this.#failQueue();
  }
}
