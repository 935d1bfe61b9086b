// An owner's handle on a node: what an export or a job holds. Checks bounds against the node's length, holds requests back
// while the node is drained, and makes every write durable when it is writethrough.

import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type {
  BlockLimits,
  BlockStatus,
  Permissions,
  RequestFlags,
  TruncateOptions,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** All request functions throw or reject IoError; "done now" is a plain value. */
export interface BlockBackend {
  readonly name: string;
  readonly node: BlockNode;
  /** Its node is read-only. */
  readonly readOnly: boolean;
  /** Bytes. */
  readonly length: number;
  readonly limits: BlockLimits;
  readonly supportedZeroFlags: RequestFlags;
  /** Every write carries FUA. */
  writethrough: boolean;
  /** Called after the node's length changed. */
  onResize: () => void;
  /** Called when a drained section begins and ends (not nested): stop taking requests from clients, and go on. */
  onDrain: (drained: boolean) => void;

  read(
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    flags?: RequestFlags,
  ): MaybePromise<void>;
  write(
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags?: RequestFlags,
  ): MaybePromise<void>;
  writeZeroes(offset: number, length: number, flags?: RequestFlags): MaybePromise<void>;
  discard(offset: number, length: number): MaybePromise<void>;
  flush(): MaybePromise<void>;
  /** Reads for the effect on caches only. */
  prefetch(offset: number, length: number): MaybePromise<void>;
  /** DATA, ZERO and ALLOCATED, through raw and filters, merged up to `length`. */
  blockStatus(offset: number, length: number): MaybePromise<BlockStatus>;
  truncate(length: number, options: TruncateOptions): MaybePromise<void>;
  /** Throws QmpError with the reference's conflict text, and leaves what was. */
  setPermissions(perm: Permissions, shared: Permissions): void;
  /** Waits for its requests, then lets the node go. */
  release(): Promise<void>;
}
