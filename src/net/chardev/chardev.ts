// Character devices: a stream of bytes with one user. The monitor is such a user; a socket, stdin and stdout, a file or a ring
// buffer are what it may be connected to.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import type { TlsCredentials, TlsEndpoint } from '../../base/tls-credentials.ts';
import type { Poller } from '../../sys/poller.ts';

/** A chardev as its user sees it. */
export interface Chardev {
  readonly id: string;
  /** False where no peer can ever send anything: a null device, a ring buffer. */
  readonly hasInput: boolean;
  /** What `query-chardev` says it is connected to: `unix:PATH,server=on`, `pty:/dev/pts/1`, `disconnected:...`. */
  filename(): string;
  /**
   * Becomes the user. `onOpen` is called at once when a peer is there.
   *
   * @throws QmpError when there is one already
   */
  attach(frontend: ChardevFrontend): void;
  detach(): void;
  /**
   * Sends bytes, or keeps them until the peer reads; they are copied. False when so much waits that nothing more should be
   * written before `onDrain`. Bytes for nobody are dropped.
   */
  write(bytes: Uint8Array): boolean;
  /** Whether `onInput` may be called; true after `attach` and whenever a peer arrives. */
  acceptInput(accept: boolean): void;
}

/** A chardev that another one may be put upon. */
export interface ChardevBase extends Chardev {
  /**
   * Keeps the place of the user free for `frontend`, which may attach later.
   *
   * @throws QmpError when there is a user already
   */
  claim(frontend: ChardevFrontend): void;
}

/** The user of a chardev. */
export interface ChardevFrontend {
  /** A peer is there. */
  onOpen(): void;
  /** The peer has left, or its input has ended. */
  onClose(): void;
  /** `bytes` are valid only during the call. */
  onInput(bytes: Uint8Array): void;
  /** After a write that returned false: there is room again. */
  onDrain(): void;
}

/** What a chardev is connected to: one object for each, made by a backend's `open`. */
export interface ChardevPort {
  filename(): string;
  /** As Chardev.write. */
  write(bytes: Uint8Array): boolean;
  /** Whether input may be handed over. False at the start. */
  acceptInput(accept: boolean): void;
  /** A user is there for the first time or again, or has left. */
  setAttached?(attached: boolean): void;
  /** Resolves when the peer has been sent everything, or will never be. */
  whenSent?(): Promise<void>;
  /** Lets go of everything. No event after this. Idempotent. */
  close(): void;
  /** The properties it has in the object model. */
  property?(name: string): unknown;
  /** Path of the pseudo-terminal, where there is one. */
  readonly pty?: string;
  /** A port that has several users: a chardev for one more. */
  seat?(): ChardevBase;
  /** Whether the user that input is for is there, where there are several. */
  readonly attached?: boolean;
}

/** What a port tells its chardev. */
export interface PortEvents {
  opened(): void;
  closed(): void;
  input(bytes: Uint8Array): void;
  drained(): void;
}

/** What ports use of the objects that users make. */
export interface PortObjects {
  /** Throws QmpError when there are no such credentials for this end. */
  tlsCredentials(id: string, endpoint: TlsEndpoint): TlsCredentials;
  /** Whether the authz object `id` lets somebody of this name in. Throws QmpError when there is no such object. */
  isAuthorized(id: string, name: string): boolean;
}

/** What a backend may use to open a port. */
export interface PortContext {
  readonly id: string;
  readonly events: PortEvents;
  readonly poller: Poller;
  readonly log: Logger;
  /** Input is read into this, and handed over before the next read; shared by all ports of a registry. */
  readonly inputMemory: IoBuffer;
  /** Output goes through this; shared likewise. */
  readonly outputMemory: IoBuffer;
  readonly origin: 'command-line' | 'qmp';
  readonly daemonized: boolean;
  readonly objects: PortObjects;
  /** Whether another chardev has stdin and stdout. */
  readonly hasStdio: () => boolean;
  /** A chardev, for another user. */
  readonly find: (id: string) => ChardevBase | undefined;
  /** Writes as a user of the chardev does: to its log file, too. */
  readonly say: (bytes: Uint8Array) => boolean;
  /** Ends the daemon. */
  readonly quit: () => void;
  /** Aborted when the chardev is given up while it opens. */
  readonly signal: AbortSignal;
}
