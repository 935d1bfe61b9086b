// Pipes for large reads and writes whose data come from another server or go there, shared by the connections of one server. They
// are few: a request that gets none has its data in memory.

import type { DataPipe } from '../../base/data-pipe.ts';
import { IoError } from '../../base/errors.ts';
import { KernelPipe } from '../../sys/pipe.ts';

/** Bytes that a pipe holds: what the kernel gives every user. */
const PIPE_SIZE = 1024 * 1024;

/** Lengths of requests whose data may be in a pipe. It has room for twice as many: pages may be there in parts. */
const PIPED_FROM = 64 * 1024;
const PIPED_TO = PIPE_SIZE / 2;

/** At once: with theirs of 64 MiB, which the kernel gives every user, two daemons have all of them. */
const MAX_PIPES = 32;

/**
 * Bytes that one connection may have under way in pipes: requests of 256 KiB, as many as it may make at once, have all of their
 * data there. Whoever does not go on with them keeps others from having pipes, so that it is less once half of all are in use.
 */
const SHARE = 4 * 1024 * 1024;
const SCARCE_SHARE = 1024 * 1024;

/** Milliseconds after which free pipes are closed. */
const IDLE_TIME = 1000;

/** Milliseconds for which no other is made after one that could not be. */
const REFUSED_TIME = 1000;

export interface PipePoolOptions {
  /** Throws IoError. */
  readonly open: (onRelease: (pipe: KernelPipe) => void) => KernelPipe;
  /** Milliseconds. */
  readonly now: () => number;
}

const usual: PipePoolOptions = {
  open: (onRelease) => new KernelPipe(PIPE_SIZE, onRelease),
  now: () => performance.now(),
};

export class PipePool {
  readonly #options: PipePoolOptions;
  readonly #free: KernelPipe[] = [];
  readonly #onRelease = (pipe: KernelPipe): void => this.#give(pipe);
  /** In use or free. */
  #count = 0;
  #refusedUntil = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PipePoolOptions = usual) {
    this.#options = options;
  }

  /**
   * An empty pipe for `length` bytes of data, or undefined when there is none to be had by a connection that has `held` bytes
   * under way already.
   */
  take(length: number, held: number): DataPipe | undefined {
    if (length < PIPED_FROM || length > PIPED_TO) return undefined;
    const isScarce = this.#count - this.#free.length >= MAX_PIPES / 2;
    if (held >= (isScarce ? SCARCE_SHARE : SHARE)) return undefined;
    return this.#free.pop() ?? this.#open();
  }

  /** Closes the free ones. */
  trim(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const pipe of this.#free.splice(0)) this.#close(pipe);
  }

  #open(): KernelPipe | undefined {
    const { open, now } = this.#options;
    if (this.#count >= MAX_PIPES || (this.#refusedUntil > 0 && now() < this.#refusedUntil)) {
      return undefined;
    }
    try {
      const pipe = open(this.#onRelease);
      this.#count++;
      this.#refusedUntil = 0;
      return pipe;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#refusedUntil = now() + REFUSED_TIME;
      return undefined;
    }
  }

  #give(pipe: KernelPipe): void {
    // To read what nobody wants costs more than another pipe.
    if (pipe.length > 0) {
      this.#close(pipe);
      return;
    }
    this.#free.push(pipe);
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.trim(), IDLE_TIME);
    this.#timer.unref();
  }

  #close(pipe: KernelPipe): void {
    pipe.close();
    this.#count--;
  }
}
