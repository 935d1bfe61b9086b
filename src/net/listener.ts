// Listening on a socket address: an address with several resolutions gets a socket for each, as in the reference.

import { type Poller, READABLE, type Watch } from '../sys/poller.ts';
import type { SocketName } from '../sys/sockaddr.ts';
import { accept, close, localName, WOULD_BLOCK } from '../sys/socket.ts';
import { boundLocalSocket, boundSockets } from './bind.ts';
import { addressOfName, type LocalAddress, type SocketAddress } from './socket-address.ts';
import { SocketChannel } from './socket-channel.ts';
import { removeSocketFile, type SocketFile, socketFileAt } from './socket-file.ts';

const DEFAULT_BACKLOG = 128;
// Connections taken per wake-up, so that a flood of them leaves time for those that are served.
const MAX_ACCEPTS_PER_WAKE = 16;
// When accept fails (no descriptors left), the connection stays in the backlog and readiness would repeat at once.
const ACCEPT_RETRY_MS = 100;

export interface ListenOptions {
  readonly poller: Poller;
  /** Connections that the kernel may hold before they are accepted. */
  readonly backlog?: number;
  /** Takes over the channel. Called only while accepting. */
  readonly onConnection: (channel: SocketChannel) => void;
  /** Whether `fd` addresses are descriptor numbers (command line, the default) or names of a monitor, which has none. */
  readonly fdsByNumber?: boolean;
  /** False: accept nothing until accept(true). */
  readonly accepting?: boolean;
}

export interface Listener {
  /** What it is bound to (of the first socket): the real port, the path of a temporary socket. */
  readonly address: SocketAddress;
  /** The same for every socket. */
  readonly addresses: readonly SocketAddress[];
  /** Whether connections are taken; otherwise they wait in the kernel. Repeated calls are harmless. */
  accept(enabled: boolean): void;
  /** Stops listening. `unlink` also removes the file of a unix socket, unless another socket has taken its place. Idempotent. */
  close(options: { unlink: boolean }): void;
}

/** Binds, listens and accepts. Rejects QmpError with the reference's texts. */
export async function listen(address: SocketAddress, options: ListenOptions): Promise<Listener> {
  const fds = await boundSockets(address, {
    backlog: options.backlog ?? DEFAULT_BACKLOG,
    fdsByNumber: options.fdsByNumber ?? true,
  });
  return new SocketListener(fds, options);
}

/** As listen(), at once, for an address that needs no resolver. Throws QmpError. */
export function listenLocal(address: LocalAddress, options: ListenOptions): Listener {
  const fd = boundLocalSocket(address, {
    backlog: options.backlog ?? DEFAULT_BACKLOG,
    fdsByNumber: options.fdsByNumber ?? true,
  });
  return new SocketListener([fd], options);
}

class SocketListener implements Listener {
  readonly addresses: readonly SocketAddress[];
  readonly #sockets: readonly ListeningSocket[];
  readonly #options: ListenOptions;
  #accepting = false;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(fds: readonly number[], options: ListenOptions) {
    this.#options = options;
    this.#sockets = fds.map((fd) => listeningSocket(fd, options.poller, () => this.#ready(fd)));
    this.addresses = this.#sockets.map(({ name }) => addressOfName(name));
    this.accept(options.accepting ?? true);
  }

  get address(): SocketAddress {
    return this.addresses[0] as SocketAddress;
  }

  accept(enabled: boolean): void {
    if (this.#closed || enabled === this.#accepting) return;
    this.#accepting = enabled;
    this.#want(enabled && this.#retry === undefined);
  }

  close(options: { unlink: boolean }): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#accepting = false;
    clearTimeout(this.#retry);
    for (const { fd, watch, file } of this.#sockets) {
      watch.close();
      // The reference removes the file before it closes the socket.
      if (options.unlink && file !== undefined) removeSocketFile(file);
      close(fd);
    }
  }

  #want(enabled: boolean): void {
    for (const { watch } of this.#sockets) watch.want(enabled ? READABLE : 0);
  }

  #ready(fd: number): void {
    for (let count = 0; count < MAX_ACCEPTS_PER_WAKE && this.#accepting; count++) {
      const connection = this.#acceptOne(fd);
      if (connection === WOULD_BLOCK) return;
      this.#options.onConnection(new SocketChannel(connection, this.#options.poller));
    }
  }

  #acceptOne(fd: number): number {
    try {
      return accept(fd);
    } catch {
      this.#want(false);
      this.#retry = setTimeout(() => {
        this.#retry = undefined;
        this.#want(this.#accepting);
      }, ACCEPT_RETRY_MS);
      return WOULD_BLOCK;
    }
  }
}

interface ListeningSocket {
  readonly fd: number;
  readonly name: SocketName;
  readonly watch: Watch;
  /** Only of a unix socket with a path. */
  readonly file: SocketFile | undefined;
}

function listeningSocket(fd: number, poller: Poller, onReady: () => void): ListeningSocket {
  const name = localName(fd);
  const file = name.family === 'unix' && name.path !== '' ? socketFileAt(name.path) : undefined;
  return { fd, name, watch: poller.watch(fd, onReady), file };
}
