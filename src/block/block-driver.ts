// What a block driver is: a readonly table of functions over a node. Contracts are asserted in io.ts, so a driver may rely
// on them: offset and length are safe integers within the node, aligned to its request alignment, length > 0.

import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { BlockNode } from './block-node.ts';

/** Request flags; the names are the reference's (BDRV_REQ_*). */
export const FUA = 1;
export const MAY_UNMAP = 2;
export const NO_FALLBACK = 4;
export type RequestFlags = number;

/** Block status bits; the names are the reference's (BDRV_BLOCK_*). */
export const BLOCK_DATA = 1;
export const BLOCK_ZERO = 2;
export const BLOCK_ALLOCATED = 4;
export const BLOCK_OFFSET_VALID = 8;
export const BLOCK_RECURSE = 16;
export const BLOCK_EOF = 32;
export type BlockStatusFlags = number;

export interface BlockStatus {
  readonly status: BlockStatusFlags;
  /** Bytes from the asked offset that share the status; at least 1. */
  readonly length: number;
  /** Where the data lies in `file`, with BLOCK_OFFSET_VALID. */
  readonly hostOffset?: number;
  readonly file?: BlockNode;
}

/** Limits a driver declares when it opens; io.ts enforces them. All in bytes. */
export interface BlockLimits {
  /** Power of two; reads and writes are widened to it. 1 when any byte may be addressed. */
  requestAlignment: number;
  /** What writeZeroes and discard work in; 0 when unknown. */
  zeroAlignment: number;
  discardAlignment: number;
  /** Largest single request; 0 for no limit. */
  maxTransfer: number;
  maxWriteZeroes: number;
  maxDiscard: number;
  /** Preferred request size; 0 when there is none. */
  optTransfer: number;
  /** Alignment of memory, for direct I/O. */
  memoryAlignment: number;
}
