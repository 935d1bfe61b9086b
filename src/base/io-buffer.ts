// Memory that the data path reads into and writes from: one block, three ways to look at it. A request names a place in it
// by (buffer, at, length), so that no view object is made per request.

/** Pinned memory. `address` is where `bytes` lives for as long as the IoBuffer is referenced. */
export interface IoBuffer {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Address of `bytes[0]` in this process, for direct system calls. Always below 2^53. */
  readonly address: number;
}

/** "Done now" or "done later": the return type of the whole request path. */
export type MaybePromise<T> = T | Promise<T>;
