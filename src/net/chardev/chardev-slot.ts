// One chardev: joins a port to its user, remembers whether a peer is there, and copies output to the log file.

import { closeSync, openSync, writeSync } from 'node:fs';
import { QmpError } from '../../qapi/errors.ts';
import type { ChardevBackend, ChardevBackendKind } from '../../qapi/generated/types.ts';
import { failure } from '../system-error.ts';
import type { ChardevBase, ChardevFrontend, ChardevPort, PortEvents } from './chardev.ts';

/** Backends that only take. */
const withoutInput: readonly ChardevBackendKind[] = ['null', 'ringbuf', 'memory'];

export class ChardevSlot implements ChardevBase, PortEvents {
  readonly id: string;
  readonly kind: ChardevBackendKind;
  #port: ChardevPort | undefined;
  #frontend: ChardevFrontend | undefined;
  /** Who is, or will be, the user. */
  #claimant: ChardevFrontend | undefined;
  #open = false;
  #accept = true;
  #accepting = false;
  #logFd = -1;

  constructor(id: string, backend: ChardevBackend) {
    this.id = id;
    this.kind = backend.type;
    const options = backend.data;
    if (options.logfile !== undefined) {
      this.#logFd = openLog(options.logfile, { append: options.logappend === true });
    }
  }

  get hasInput(): boolean {
    return !withoutInput.includes(this.kind);
  }

  /** The port, once it is open. */
  get port(): ChardevPort | undefined {
    return this.#port;
  }

  set port(port: ChardevPort) {
    this.#port = port;
  }

  /** Whether a user has it open. */
  get attached(): boolean {
    return this.#port?.attached ?? this.#frontend !== undefined;
  }

  /** Whether it is kept for a user, be it one to come. A multiplexer always is. */
  get inUse(): boolean {
    return this.shared || this.#claimant !== undefined;
  }

  /** Whether it may have several users. */
  get shared(): boolean {
    return this.#port?.seat !== undefined;
  }

  filename(): string {
    return this.#port?.filename() ?? '';
  }

  /** The chardev for one more user. */
  seat(): ChardevBase {
    return this.#port?.seat?.() ?? this;
  }

  claim(frontend: ChardevFrontend): void {
    if (this.#claimant !== undefined) throw new QmpError(`Device '${this.id}' is in use`);
    this.#claimant = frontend;
  }

  attach(frontend: ChardevFrontend): void {
    if (this.#claimant !== frontend) this.claim(frontend);
    this.#frontend = frontend;
    this.#accept = true;
    if (this.#open) frontend.onOpen();
    this.#port?.setAttached?.(true);
    this.#tellAccept();
  }

  detach(): void {
    this.#claimant = undefined;
    if (this.#frontend === undefined) return;
    this.#frontend = undefined;
    this.#tellAccept();
    this.#port?.setAttached?.(false);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#logFd >= 0) this.#writeLog(bytes);
    return this.#port?.write(bytes) ?? true;
  }

  acceptInput(accept: boolean): void {
    this.#accept = accept;
    this.#tellAccept();
  }

  opened(): void {
    this.#open = true;
    this.#accept = true;
    this.#frontend?.onOpen();
    this.#tellAccept();
  }

  closed(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#frontend?.onClose();
  }

  input(bytes: Uint8Array): void {
    this.#frontend?.onInput(bytes);
  }

  drained(): void {
    this.#frontend?.onDrain();
  }

  /** Lets go of everything; the user, if there is one, hears nothing more. */
  close(): void {
    this.#frontend = undefined;
    this.#port?.close();
    if (this.#logFd >= 0) closeSync(this.#logFd);
    this.#logFd = -1;
  }

  #tellAccept(): void {
    const accepting = this.#accept && this.#frontend !== undefined;
    if (accepting === this.#accepting || this.#port === undefined) return;
    this.#accepting = accepting;
    this.#port.acceptInput(accepting);
  }

  /** Best effort, as in the reference. */
  #writeLog(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#logFd, bytes, at);
    } catch {
      // A full disk must not stop the chardev.
    }
  }
}

function openLog(path: string, options: { append: boolean }): number {
  try {
    return openSync(path, options.append ? 'a' : 'w', 0o666);
  } catch (error) {
    throw failure(`Could not create '${path}'`, error);
  }
}
