// An edge of the graph: somebody (a node, or an owner's BlockBackend) uses a node, in a role and with permissions.

import type { DataPipe, PipeSource } from '../base/data-pipe.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { BlkdebugEvent } from '../qapi/generated/types.ts';
import {
  type BlockStatus,
  type ChildRole,
  type FileRange,
  MAY_UNMAP,
  type PermissionPair,
  type Permissions,
  type RequestFlags,
  type TruncateOptions,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { blockStatus } from './block-status.ts';
import type { Completion, Started } from './completion.ts';
import {
  cachedRange,
  discard,
  prefetch,
  read,
  startRead,
  startWrite,
  write,
  writesFromPipe,
  writeZeroes,
} from './io.ts';
import { flush } from './io-flush.ts';
import { truncate } from './io-truncate.ts';

/** The using end of an edge. */
export interface ChildParent {
  /** As messages name it: `node 'top'`, `an unnamed block device`. */
  describe(): string;
  /** The node, when the user is one; undefined for an owner's handle. */
  readonly parentNode: BlockNode | undefined;
  /** Submit no requests until drainEnd (nested); what is in flight may finish. */
  drainBegin(): void;
  drainEnd(): void;
  /** The node's length changed. */
  resized(): void;
}

/** Requests through an edge; offsets and lengths in bytes, errors as in io.ts. */
export class BlockChild {
  readonly name: string;
  /** Reopening the parent may put another one here. */
  node: BlockNode;
  /** Changes only while the parent opens: what it holds may not be known before. */
  role: ChildRole;
  readonly parent: ChildParent;
  perm: Permissions;
  sharedPerm: Permissions;

  constructor(
    options: {
      name: string;
      node: BlockNode;
      role: ChildRole;
      parent: ChildParent;
    } & PermissionPair,
  ) {
    this.name = options.name;
    this.node = options.node;
    this.role = options.role;
    this.parent = options.parent;
    this.perm = options.perm;
    this.sharedPerm = options.shared;
  }

  /** As in io.ts. */
  cachedRange(offset: number, length: number): FileRange | undefined {
    return cachedRange(this.node, offset, length);
  }

  read(
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    flags: RequestFlags = 0,
  ): MaybePromise<void> {
    return read(this.node, offset, length, into, at, flags);
  }

  /** As in io.ts. */
  startRead(
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    completion: Completion,
    pipes?: PipeSource,
  ): Started {
    return startRead(this.node, offset, length, into, at, completion, pipes);
  }

  prefetch(offset: number, length: number): MaybePromise<void> {
    return prefetch(this.node, offset, length);
  }

  write(
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags = 0,
  ): MaybePromise<void> {
    return write(this.node, offset, length, from, at, flags);
  }

  /** As in io.ts. */
  startWrite(
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags,
    completion: Completion,
    pipe?: DataPipe,
  ): Started {
    return startWrite(this.node, offset, length, from, at, flags, completion, pipe);
  }

  /** As in io.ts. */
  get writesFromPipe(): boolean {
    return writesFromPipe(this.node);
  }

  /** MAY_UNMAP counts only on a node with discard 'unmap'. */
  writeZeroes(offset: number, length: number, flags: RequestFlags = 0): MaybePromise<void> {
    const allowed = this.node.unmap ? flags : flags & ~MAY_UNMAP;
    return writeZeroes(this.node, offset, length, allowed);
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return discard(this.node, offset, length);
  }

  /** Tells a node that waits for it what its user does: for fault injection. */
  debugEvent(event: BlkdebugEvent): void {
    this.node.driver.debugEvent?.(this.node, event);
  }

  flush(): MaybePromise<void> {
    return flush(this.node);
  }

  /** Throws QmpError. */
  truncate(length: number, options: TruncateOptions): MaybePromise<void> {
    return truncate(this.node, length, options);
  }

  /** Through raw and filters, as far down as the status is exact. */
  blockStatus(offset: number, length: number): MaybePromise<BlockStatus> {
    return blockStatus(this.node, offset, length);
  }
}
