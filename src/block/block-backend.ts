// An owner's handle on a node: what an export or a job holds. Checks bounds against the node's length, holds requests back
// while the node is drained, and makes every write durable when it is writethrough.

import type { DataPipe, PipeSource } from '../base/data-pipe.ts';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { BlockChild, ChildParent } from './block-child.ts';
import type {
  BlockLimits,
  BlockStatus,
  FileRange,
  Permissions,
  RequestFlags,
  TruncateOptions,
} from './block-driver.ts';
import { FUA, PERM_RESIZE, PERM_WRITE, PERM_WRITE_UNCHANGED } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { type AllocationDepth, allocationDepth, blockStatus } from './block-status.ts';
import { type Completion, type Started, tell } from './completion.ts';
import { copyOnRead } from './copy-on-read.ts';
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
import { inFlight } from './io-driver.ts';
import { flush } from './io-flush.ts';
import { truncate } from './io-truncate.ts';
import { setChildPermissions } from './permissions.ts';

/** What the owner of a handle does with its node, and lets others do. */
export interface BackendOptions {
  readonly perm: Permissions;
  readonly shared: Permissions;
  /** As messages name it; without one `an unnamed block device`. */
  readonly name?: string;
}

/** How a backend gets into the graph and out of it; the graph provides it. */
export interface BackendEdges {
  readonly name?: string;
  attach(parent: ChildParent): BlockChild;
  detach(child: BlockChild): Promise<void>;
}

/** All request functions throw or reject IoError; "done now" is a plain value. Offsets and lengths in bytes. */
export class BlockBackend {
  readonly name: string;
  /** Every write and write of zeroes carries FUA. */
  writethrough = false;
  /** Writes may go beyond the end, and make the node longer: for whoever makes an image. */
  writesBeyondEnd = false;
  /** Called after the node's length changed. Must not throw. */
  onResize: () => void = () => {};
  /** Called when a drained section begins (true) and ends (not nested): requests meanwhile wait. Must not throw. */
  onDrain: (drained: boolean) => void = () => {};

  readonly #edges: BackendEdges;
  readonly #child: BlockChild;
  #drained = 0;
  #undrained: (() => void)[] = [];
  #released = false;

  constructor(edges: BackendEdges) {
    this.name = edges.name ?? '';
    this.#edges = edges;
    this.#child = edges.attach({
      parentNode: undefined,
      describe: () =>
        this.name === '' ? 'an unnamed block device' : `block device '${this.name}'`,
      drainBegin: () => this.#drainBegin(),
      drainEnd: () => this.#drainEnd(),
      resized: () => this.onResize(),
    });
  }

  /** A snapshot puts its overlay here. */
  get node(): BlockNode {
    return this.#child.node;
  }

  /** Its node is read-only. */
  get readOnly(): boolean {
    return this.node.readOnly;
  }

  get length(): number {
    return this.node.length;
  }

  get limits(): BlockLimits {
    return this.node.limits;
  }

  get supportedZeroFlags(): RequestFlags {
    return this.node.supportedZeroFlags;
  }

  get perm(): Permissions {
    return this.#child.perm;
  }

  get sharedPerm(): Permissions {
    return this.#child.sharedPerm;
  }

  read(
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    flags: RequestFlags = 0,
  ): MaybePromise<void> {
    if (this.#drained > 0) {
      return this.#whenUndrained(() => this.read(offset, length, into, at, flags));
    }
    this.#checkBounds(offset, length, 'read');
    return read(this.node, offset, length, into, at, flags);
  }

  /** As read; `completion` is told, unless it is done now. Throws IoError. */
  startRead(
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    completion: Completion,
    pipes?: PipeSource,
  ): Started {
    if (this.#drained > 0) return tell(this.read(offset, length, into, at), completion);
    this.#checkBounds(offset, length, 'read');
    return startRead(this.node, offset, length, into, at, completion, pipes);
  }

  /** Where an area lies in the page cache of a file, if it does: instead of a read. Good until the next wait only. */
  cachedRange(offset: number, length: number): FileRange | undefined {
    if (this.#drained > 0) return undefined;
    this.#checkBounds(offset, length, 'read');
    return cachedRange(this.node, offset, length);
  }

  write(
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags = 0,
  ): MaybePromise<void> {
    if (this.#drained > 0) {
      return this.#whenUndrained(() => this.write(offset, length, from, at, flags));
    }
    if (!this.writesBeyondEnd) this.#checkBounds(offset, length, 'write');
    this.#checkWrite(offset);
    return write(this.node, offset, length, from, at, this.writethrough ? flags | FUA : flags);
  }

  /** As write; `completion` is told, unless it is done now. Throws IoError. */
  startWrite(
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags,
    completion: Completion,
    pipe?: DataPipe,
  ): Started {
    if (this.#drained > 0) {
      pipe?.empty(from, at);
      return tell(this.write(offset, length, from, at, flags), completion);
    }
    if (!this.writesBeyondEnd) this.#checkBounds(offset, length, 'write');
    this.#checkWrite(offset);
    const all = this.writethrough ? flags | FUA : flags;
    return startWrite(this.node, offset, length, from, at, all, completion, pipe);
  }

  /** As in io.ts. */
  get writesFromPipe(): boolean {
    return writesFromPipe(this.node);
  }

  writeZeroes(offset: number, length: number, flags: RequestFlags = 0): MaybePromise<void> {
    if (this.#drained > 0) {
      return this.#whenUndrained(() => this.writeZeroes(offset, length, flags));
    }
    this.#checkBounds(offset, length, 'write zeroes');
    this.#checkWrite(offset);
    return writeZeroes(this.node, offset, length, this.writethrough ? flags | FUA : flags);
  }

  discard(offset: number, length: number): MaybePromise<void> {
    if (this.#drained > 0) return this.#whenUndrained(() => this.discard(offset, length));
    this.#checkBounds(offset, length, 'discard');
    this.#checkWrite(offset);
    return discard(this.node, offset, length);
  }

  flush(): MaybePromise<void> {
    if (this.#drained > 0) return this.#whenUndrained(() => this.flush());
    return flush(this.node);
  }

  /** Has data near for later reads: what only backing files have is copied into the node, as the reference does. */
  prefetch(offset: number, length: number): MaybePromise<void> {
    if (this.#drained > 0) return this.#whenUndrained(() => this.prefetch(offset, length));
    this.#checkBounds(offset, length, 'prefetch');
    const { node } = this;
    const copied = copyOnRead(node, { offset, length });
    if (copied === undefined) return prefetch(node, offset, length);
    return inFlight(
      node,
      copied.then(() => prefetch(node, offset, length)),
    );
  }

  /**
   * DATA, ZERO and ALLOCATED of the first extent at `offset`, through raw, filters and backing files; the answer's length is
   * at most `length`, and the next extent may have the same status.
   */
  blockStatus(offset: number, length: number, wantZero = true): MaybePromise<BlockStatus> {
    if (this.#drained > 0) {
      return this.#whenUndrained(() => this.blockStatus(offset, length, wantZero));
    }
    return blockStatus(this.node, offset, length, wantZero);
  }

  /** How deep in the backing chain the first extent at `offset` is allocated; its length is at most `length`. */
  allocationDepth(offset: number, length: number): MaybePromise<AllocationDepth> {
    if (this.#drained > 0) {
      return this.#whenUndrained(() => this.allocationDepth(offset, length));
    }
    return allocationDepth(this.node, offset, length);
  }

  /** Throws QmpError with the reference's text. */
  async truncate(length: number, options: TruncateOptions): Promise<void> {
    if (this.#drained > 0) return this.#whenUndrained(() => this.truncate(length, options));
    if ((this.#child.perm & PERM_RESIZE) === 0) {
      throw new IoError(errno.EPERM, { syscall: 'truncate', offset: length });
    }
    await truncate(this.node, length, options);
  }

  /** Throws QmpError with the reference's conflict text, and leaves what was. */
  setPermissions(perm: Permissions, shared: Permissions): void {
    setChildPermissions(this.#child, { perm, shared });
  }

  /** Waits for requests in flight, then lets the node go. No request may follow. Idempotent. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#edges.detach(this.#child);
  }

  #checkBounds(offset: number, length: number, what: string): void {
    if (this.#released) throw new IoError(errno.ENOMEDIUM, { syscall: what, offset });
    if (!(offset >= 0 && length >= 0 && offset + length <= this.node.length)) {
      throw new IoError(errno.EIO, { syscall: what, offset });
    }
  }

  #checkWrite(offset: number): void {
    if ((this.#child.perm & (PERM_WRITE | PERM_WRITE_UNCHANGED)) === 0) {
      throw new IoError(errno.EPERM, { syscall: 'write', offset });
    }
  }

  #drainBegin(): void {
    if (this.#drained++ === 0) this.onDrain(true);
  }

  #drainEnd(): void {
    if (--this.#drained > 0) return;
    const waiting = this.#undrained;
    this.#undrained = [];
    for (const wake of waiting) wake();
    this.onDrain(false);
  }

  async #whenUndrained<T>(request: () => MaybePromise<T>): Promise<T> {
    await new Promise<void>((resolve) => this.#undrained.push(resolve));
    return request();
  }
}
