// Memory for bytes on their way into TLS sessions: what an owner has handed over must stay until it is encrypted and sent.

/** Bytes of one chunk: large ones are encrypted with the least effort. */
export const CHUNK_BYTES = 256 * 1024;
/** Less is not worth keeping a chunk for. */
const SMALL_BYTES = 8 * 1024;
/** Free chunks that are kept. */
const MAX_FREE = 8;

export class ChunkPool {
  readonly #free: ArrayBuffer[] = [];

  /** Memory for `length` bytes, or for a whole chunk if they are more. */
  take(length: number): Buffer {
    if (length <= SMALL_BYTES) return Buffer.allocUnsafe(length);
    const memory = this.#free.pop() ?? new ArrayBuffer(CHUNK_BYTES);
    return Buffer.from(memory, 0, Math.min(length, CHUNK_BYTES));
  }

  /** Takes it back. Nobody may refer to it any more. */
  give(chunk: Buffer): void {
    const { buffer } = chunk;
    if (chunk.length <= SMALL_BYTES || this.#free.length >= MAX_FREE) return;
    if (buffer instanceof ArrayBuffer && buffer.byteLength === CHUNK_BYTES) this.#free.push(buffer);
  }
}
