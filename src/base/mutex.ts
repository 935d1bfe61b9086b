// One at a time, in the order of asking. Free means that nothing has to be waited for.

import type { MaybePromise } from './io-buffer.ts';

export class Mutex {
  #held = false;
  readonly #waiting: (() => void)[] = [];

  get held(): boolean {
    return this.#held;
  }

  /** Takes it, at once when it is free. */
  acquire(): MaybePromise<void> {
    if (this.#held) return new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#held = true;
    return undefined;
  }

  /** Hands it to whoever has waited longest. */
  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#held = false;
    else next();
  }

  /** Runs `work` while holding it. */
  async run<T>(work: () => MaybePromise<T>): Promise<T> {
    await this.acquire();
    try {
      return await work();
    } finally {
      this.release();
    }
  }
}
