// A disk that a program makes up for its daemon, as the program sees it. Part of the public API: it speaks of nothing that a
// program would need other types for.

/** What a `status` says of an area: data, or known to read as zeroes. */
export interface DiskStatus {
  readonly kind: 'data' | 'zero';
  /** Bytes from the asked offset that are so; at least 1. What goes beyond the asked length is ignored. */
  readonly length: number;
}

/**
 * A disk made of code. Offsets and lengths are bytes, and areas lie within `size`. A function that is done returns nothing, or
 * resolves; one that fails throws or rejects: an error with a `code` as Node's own (`ENOSPC`, `EIO`, ...) is answered as that,
 * any other as EIO. Several requests may be under way at a time. Memory that is handed over is the disk's until the function
 * is done, and not after.
 */
export interface Disk {
  /** Bytes. A multiple of 512 unless the rest of the last sector may be left out. */
  readonly size: number;
  /** Fills `into` with what lies from `offset` on. */
  read(into: Uint8Array, offset: number): void | Promise<void>;
  /** Without it the disk is read-only. */
  write?(from: Uint8Array, offset: number): void | Promise<void>;
  /** Makes an area read as zeroes; `mayUnmap`: its place may be given up. Without it zeroes are written. */
  writeZeroes?(
    offset: number,
    length: number,
    options: { readonly mayUnmap: boolean },
  ): void | Promise<void>;
  /** The content of an area does not matter any more. */
  discard?(offset: number, length: number): void | Promise<void>;
  /** Makes everything durable that was written before. */
  flush?(): void | Promise<void>;
  /** Without it everything is data. */
  status?(offset: number, length: number): DiskStatus | Promise<DiskStatus>;
  /** The node is gone; no request is under way. */
  close?(): void | Promise<void>;
}
