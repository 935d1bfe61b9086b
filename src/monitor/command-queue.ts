// One command at a time, in all monitors together. Each monitor keeps its own requests in order and queues a turn here for
// the next one; after a turn it goes to the end, so a busy monitor does not keep the others waiting.

import type PQueue from 'p-queue';

/** Carries out one request. Must not reject. */
export type Turn = () => Promise<void>;

export class CommandQueue {
  /** p-queue is loaded with the first turn: a greeting does not wait for it. */
  #queue: PQueue | Promise<PQueue> | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  /** Runs `turn` once those before it are done, never before this returns. Turns that have not begun when the queue is closed never do. */
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
    this.#queue = new Queue({ concurrency: 1 });
    return this.#queue;
  }

  #enqueue(queue: PQueue, turn: Turn): void {
    void queue.add(async () => {
      // p-queue may begin within `add`, where the monitor is still in the middle of its input.
      await Promise.resolve();
      if (this.#closed) return;
      this.#running = turn();
      await this.#running;
    });
  }
}
