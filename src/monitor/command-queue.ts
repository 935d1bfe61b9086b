// One command at a time, in all monitors together. Each monitor keeps its own requests in order and queues a turn here for
// the next one; after a turn it goes to the end, so a busy monitor does not keep the others waiting.

import type PQueue from 'p-queue';
import type { Logger } from '../base/log.ts';

/** Carries out one request. Rejects only through a fault of the program, which is logged. */
export type Turn = () => Promise<void>;

export class CommandQueue {
  readonly #log: Logger;
  /** p-queue is loaded with the first turn: a greeting does not wait for it. */
  #queue: PQueue | Promise<PQueue> | undefined;
  #running: Promise<void> | undefined;
  #started = false;
  #closed = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Lets turns begin. Until then they wait: the command line is carried out before the first command of a monitor. */
  start(): void {
    this.#started = true;
    if (this.#queue !== undefined && !(this.#queue instanceof Promise)) this.#queue.start();
  }

  /**
   * Runs `turn` once those before it are done, and never before this returns. Turns that have not begun when the queue is
   * closed never do.
   */
  add(turn: Turn): void {
    if (this.#closed) return;
    this.#queue ??= this.#load();
    if (this.#queue instanceof Promise)
      void this.#queue.then((queue) => this.#enqueue(queue, turn));
    else this.#enqueue(this.#queue, turn);
  }

  /** Starts no more turns; resolves when the running one is done. Not to be awaited from within a turn. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #load(): Promise<PQueue> {
    const { default: Queue } = await import('p-queue');
    const queue = new Queue({ concurrency: 1, autoStart: this.#started });
    this.#queue = queue;
    return queue;
  }

  #enqueue(queue: PQueue, turn: Turn): void {
    void queue.add(async () => {
      // Not within `add`, where the monitor is still in the middle of its input; and what the command before has set off
      // (clients that leave, nodes that close) comes to its end first, as in the reference.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#closed) return;
      this.#running = turn().catch((error: unknown) => {
        this.#log.error(`A monitor failed unexpectedly: ${String(error)}`, { err: error });
      });
      await this.#running;
    });
  }
}
