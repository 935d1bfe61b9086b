// Where a frontend connects, one at a time: the next one waits in the socket's backlog until the one before has gone and its
// requests are done.

import type { Logger } from '../../base/log.ts';
import { type Listener, listenLocal } from '../../net/listener.ts';
import type { LocalAddress } from '../../net/socket-address.ts';
import type { SocketChannel } from '../../net/socket-channel.ts';
import type { EventSignaller } from '../../sys/event-signal.ts';
import type { Poller } from '../../sys/poller.ts';
import type { VirtioBlkDevice } from '../virtio-blk/device.ts';
import { Connection } from './connection.ts';
import { dispatch } from './dispatch.ts';
import { Session } from './session.ts';

/** As the reference: one frontend may wait. */
const BACKLOG = 1;

export interface VhostUserServerOptions {
  readonly address: LocalAddress;
  /** Whether an `fd` address is a descriptor number (command line) or a monitor's name for one. */
  readonly fdsByNumber: boolean;
  readonly device: VirtioBlkDevice;
  readonly poller: Poller;
  readonly signals: EventSignaller;
  readonly log: Logger;
  /** What log messages begin with. */
  readonly name: string;
  /** The frontend has come (true) or gone, with all that it left (false). */
  readonly onFrontend: (connected: boolean) => void;
}

interface Frontend {
  readonly connection: Connection;
  readonly session: Session;
}

export class VhostUserServer {
  readonly #options: VhostUserServerOptions;
  readonly #listener: Listener;
  #frontend: Frontend | undefined;
  /** Settles when the frontend that is on its way out has gone. */
  #leaving: Promise<void> | undefined;
  #stopped = false;

  /** Listens. Throws QmpError with the reference's texts. */
  constructor(options: VhostUserServerOptions) {
    this.#options = options;
    this.#listener = listenLocal(options.address, {
      poller: options.poller,
      backlog: BACKLOG,
      fdsByNumber: options.fdsByNumber,
      onConnection: (channel) => this.#accept(channel),
    });
  }

  get hasFrontend(): boolean {
    return this.#frontend !== undefined || this.#leaving !== undefined;
  }

  /** Tells the frontend that the configuration space is another now. */
  announceConfig(): void {
    this.#frontend?.session.announceConfig();
  }

  /** Takes no more frontends. Idempotent. */
  stopListening(): void {
    this.#stopped = true;
    this.#listener.close({ unlink: true });
  }

  /** Takes no more frontends and drops the one there is; resolves when its requests are done. */
  async close(): Promise<void> {
    this.stopListening();
    this.#frontend?.connection.close();
    await this.#leaving;
  }

  #accept(channel: SocketChannel): void {
    this.#listener.accept(false);
    const { poller, signals, device } = this.#options;
    const session = new Session({
      poller,
      signals,
      device,
      onFailure: (error) => connection.close(error),
    });
    const connection: Connection = new Connection({
      channel,
      onMessage: (message) => dispatch(session, connection, message),
      onEnd: (error) => this.#ended(session, error),
    });
    this.#frontend = { connection, session };
    this.#options.onFrontend(true);
    connection.start();
  }

  #ended(session: Session, error: unknown): void {
    if (error !== undefined) this.#report(error);
    this.#frontend = undefined;
    const later = session.end();
    if (later === undefined) this.#gone();
    else this.#leaving = later.then(() => this.#gone());
  }

  #gone(): void {
    this.#leaving = undefined;
    this.#options.onFrontend(false);
    if (!this.#stopped) this.#listener.accept(true);
  }

  #report(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#options.log.error(`${this.#options.name}: ${reason}`);
  }
}
