// What a driver may use of the graph and of the program: while it opens a node, and keep; and while it makes an image.

import type { Clock } from '../base/clock.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import type { RingSource } from '../base/request-ring.ts';
import type { Trace } from '../base/trace.ts';
import type { ObjectLookup } from '../object/user-object.ts';
import type { EventSink } from '../qapi/event-sink.ts';
import type { BlockdevDriver, BlockdevRef } from '../qapi/generated/types.ts';
import type { BlockBackend } from './block-backend.ts';
import type { BlockChild } from './block-child.ts';
import type { BlockDriver, ChildRole, PermissionPair } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** Readiness of descriptors, as sys/poller.ts gives it; drivers that wait for a socket need one. */
export interface DescriptorPoller {
  watch(fd: number, onReady: (events: number) => void): DescriptorWatch;
}
export interface DescriptorWatch {
  want(events: number): void;
  close(): void;
}

/** What all drivers of a graph share. */
export interface DriverServices {
  readonly log: Logger;
  readonly events: EventSink;
  readonly trace: Trace;
  readonly poller: DescriptorPoller;
  /** What users have made with object-add. */
  readonly objects: ObjectLookup;
  readonly clock: Clock;
  /** Descriptors in socket addresses are told by their numbers (command line), not by names that a monitor gave them. */
  readonly fdsByNumber: boolean;
  /** Aborted before the graph is closed: whoever waits for somebody else must give up then. */
  readonly signal: AbortSignal;
  /** Files that this process itself serves, by their absolute names: to open one would be to wait for ourselves. */
  readonly servedFiles: ReadonlySet<string>;
  /** Page-aligned memory, for bounce buffers. */
  readonly allocate: (length: number) => IoBuffer;
  /** For requests that would make this thread wait. */
  readonly ring: RingSource;
}

/** What a driver may use while it opens a node, and keep. */
export interface OpenContext extends DriverServices {
  /**
   * Opens or finds what `reference` names and attaches it to the node under `name`; `file` (primary) and `backing` (COW)
   * children appear as `node.file` and `node.backing` too. Throws QmpError; an attached child is released by the graph
   * if the driver's open fails later. `failing`: what errors of opening it, not of attaching it, begin with.
   */
  openChild(
    name: string,
    reference: BlockdevRef,
    role: ChildRole,
    failing?: string,
  ): Promise<BlockChild>;
  /** The open node of that name. */
  lookUp(nodeName: string): BlockNode | undefined;
  /** Throws QmpError when there is none of that name. */
  driver(name: BlockdevDriver): BlockDriver;
}

/** What a driver may use while it makes an image. */
export interface CreateContext {
  readonly log: Logger;
  /** As in OpenContext. */
  readonly servedFiles: ReadonlySet<string>;
  /** Page-aligned memory. */
  readonly allocate: (length: number) => IoBuffer;
  /** The node of that name. Throws QmpError. */
  find(reference: string): BlockNode;
  /**
   * Opens or finds what `reference` names and takes hold of it; the caller releases the handle, and with it a node that was
   * made for it. One that is there already is answered at once. Throws or rejects QmpError.
   */
  openBackend(reference: BlockdevRef, pair: PermissionPair): MaybePromise<BlockBackend>;
}
