// Output to a peer that may read slowly: sent at once while the kernel takes it, kept in order while not.

import type { IoBuffer } from '../../base/io-buffer.ts';

/** Above this, write() says that it is enough. What it was given is kept all the same. */
export const HIGH_WATER_BYTES = 1024 * 1024;
/** Below this, a writer that was told to wait is told to go on. */
const LOW_WATER_BYTES = 64 * 1024;

export interface OutputQueueOptions {
  /** System calls read from here; may be shared, for nothing stays in it. */
  readonly memory: IoBuffer;
  /** Bytes taken, or -1 when the kernel takes none at the moment. May throw. */
  readonly send: (from: IoBuffer, at: number, length: number) => number;
  /** Whether flush() shall be called when there is room again. */
  readonly wantRoom: (want: boolean) => void;
  readonly onDrain: () => void;
}

export class OutputQueue {
  readonly #options: OutputQueueOptions;
  readonly #chunks: Uint8Array[] = [];
  /** Bytes of the first chunk that are sent. */
  #sent = 0;
  #pending = 0;
  #full = false;
  #emptied: (() => void)[] = [];

  constructor(options: OutputQueueOptions) {
    this.#options = options;
  }

  /** Bytes that the kernel has not taken yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Sends or keeps; false above the high-water mark. Throws what `send` throws. */
  write(bytes: Uint8Array): boolean {
    let at = 0;
    if (this.#pending === 0) at = this.#sendFrom(bytes, 0);
    if (at < bytes.length) {
      if (this.#pending === 0) this.#options.wantRoom(true);
      this.#chunks.push(Uint8Array.from(bytes.subarray(at)));
      this.#pending += bytes.length - at;
      if (this.#pending > HIGH_WATER_BYTES) this.#full = true;
    }
    return !this.#full;
  }

  /** There may be room: sends what can be sent. Throws what `send` throws. */
  flush(): void {
    while (this.#pending > 0) {
      const chunk = this.#chunks[0] as Uint8Array;
      const before = this.#sent;
      this.#sent = this.#sendFrom(chunk, before);
      this.#pending -= this.#sent - before;
      if (this.#sent < chunk.length) break;
      this.#chunks.shift();
      this.#sent = 0;
    }
    if (this.#pending === 0) {
      this.#options.wantRoom(false);
      this.#tellEmpty();
    }
    if (this.#full && this.#pending < LOW_WATER_BYTES) {
      this.#full = false;
      this.#options.onDrain();
    }
  }

  /** Forgets what waits: the peer is gone. */
  clear(): void {
    if (this.#pending > 0) this.#options.wantRoom(false);
    this.#chunks.length = 0;
    this.#sent = 0;
    this.#pending = 0;
    this.#full = false;
    this.#tellEmpty();
  }

  /** Resolves once nothing waits: it is sent, or forgotten. */
  whenEmpty(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((fulfil) => {
      this.#emptied.push(fulfil);
    });
  }

  #tellEmpty(): void {
    for (const fulfil of this.#emptied.splice(0)) fulfil();
  }

  /** Sends `bytes` from `at` on; answers how far it came. */
  #sendFrom(bytes: Uint8Array, at: number): number {
    const { memory, send } = this.#options;
    let sent = at;
    while (sent < bytes.length) {
      const length = Math.min(bytes.length - sent, memory.bytes.length);
      memory.bytes.set(bytes.subarray(sent, sent + length));
      const taken = send(memory, 0, length);
      if (taken <= 0) break;
      sent += taken;
    }
    return sent;
  }
}
