// A pseudo-terminal. Whether somebody has its other side open is only found out by asking: once a second while nobody has.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { ChardevCommon } from '../../qapi/generated/types.ts';
import {
  readDescriptor,
  setStatusFlags,
  statusFlags,
  writeDescriptor,
} from '../../sys/descriptor.ts';
import { O_NONBLOCK } from '../../sys/file.ts';
import { READABLE, type Watch, WRITABLE } from '../../sys/poller.ts';
import { close } from '../../sys/socket.ts';
import { openPseudoTerminal } from '../../sys/terminal.ts';
import { failure } from '../system-error.ts';
import type { ChardevPort, PortContext } from './chardev.ts';
import { OutputQueue } from './output-queue.ts';

const ASK_AGAIN_MS = 1000;
const WOULD_BLOCK = -1;

export function openPty(_options: ChardevCommon, context: PortContext): ChardevPort {
  try {
    const { fd, path } = openPseudoTerminal();
    setStatusFlags(fd, statusFlags(fd) | O_NONBLOCK);
    return new PtyPort(fd, path, context);
  } catch (error) {
    throw failure('Failed to create PTY', error);
  }
}

class PtyPort implements ChardevPort {
  readonly pty: string;
  readonly #fd: number;
  readonly #context: PortContext;
  readonly #queue: OutputQueue;
  /** Only while connected: a terminal that nobody has open is always "ready". */
  #watch: Watch | undefined;
  #wanted = 0;
  #attached = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(fd: number, path: string, context: PortContext) {
    this.#fd = fd;
    this.pty = path;
    this.#context = context;
    this.#queue = new OutputQueue({
      memory: context.outputMemory,
      send: (from, at, length) => writeDescriptor(this.#fd, from.address + at, length),
      wantRoom: (want) => this.#want(WRITABLE, want),
      onDrain: () => context.events.drained(),
    });
  }

  filename(): string {
    return `pty:${this.pty}`;
  }

  /** What nobody can read is dropped. */
  write(bytes: Uint8Array): boolean {
    if (this.#watch === undefined) this.#ask();
    if (this.#watch === undefined) return true;
    try {
      return this.#queue.write(bytes);
    } catch {
      this.#disconnected();
      return true;
    }
  }

  acceptInput(accept: boolean): void {
    this.#want(READABLE, accept);
  }

  setAttached(attached: boolean): void {
    this.#attached = attached;
    clearTimeout(this.#timer);
    if (attached && this.#watch === undefined) this.#ask();
  }

  whenSent(): Promise<void> {
    return this.#queue.whenEmpty();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watch?.close();
    this.#watch = undefined;
    close(this.#fd);
  }

  #want(event: number, want: boolean): void {
    this.#wanted = want ? this.#wanted | event : this.#wanted & ~event;
    this.#watch?.want(this.#wanted);
  }

  /** Finds out whether the other side is open: reading says EIO when it is not. */
  #ask(): void {
    clearTimeout(this.#timer);
    const input = this.#read();
    if (input === undefined) {
      if (this.#attached) this.#timer = setTimeout(() => this.#ask(), ASK_AGAIN_MS);
      return;
    }
    const { poller, events } = this.#context;
    this.#watch = poller.watch(this.#fd, (ready) => this.#ready(ready));
    this.#watch.want(this.#wanted);
    events.opened();
    if (input.length > 0) events.input(input);
  }

  #ready(ready: number): void {
    if ((ready & this.#wanted & READABLE) !== 0) {
      const input = this.#read();
      if (input === undefined) this.#disconnected();
      else if (input.length > 0) this.#context.events.input(input);
    }
    if (this.#watch !== undefined && (ready & this.#wanted & WRITABLE) !== 0) {
      try {
        this.#queue.flush();
      } catch {
        this.#disconnected();
      }
    }
  }

  /** Input, nothing when there is none, or undefined when the other side is closed. */
  #read(): Uint8Array | undefined {
    const { address, bytes } = this.#context.inputMemory;
    try {
      const count = readDescriptor(this.#fd, address, bytes.length);
      if (count === 0) return undefined;
      return count === WOULD_BLOCK ? bytes.subarray(0, 0) : bytes.subarray(0, count);
    } catch (error) {
      if (error instanceof IoError && error.errno !== errno.EIO) {
        this.#context.log.debug(`Reading from ${this.pty} failed: ${error.reason}`);
      }
      return undefined;
    }
  }

  /** The user hears of it only when the terminal is opened again, as in the reference. */
  #disconnected(): void {
    this.#queue.clear();
    this.#watch?.close();
    this.#watch = undefined;
    clearTimeout(this.#timer);
    if (this.#attached) this.#timer = setTimeout(() => this.#ask(), ASK_AGAIN_MS);
  }
}
