// The block graph of one engine: all nodes, by name and in order, and the ways in and out of it. Everything of the block
// layer hangs off it; there is no state elsewhere.

import type { IoBuffer } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import type { EventSink } from '../qapi/event-sink.ts';
import type { BlockdevDriver, BlockdevOptions } from '../qapi/generated/types.ts';
import type { BlockBackend } from './block-backend.ts';
import type { BlockDriver, DescriptorPoller, Permissions } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

export interface BlockGraphOptions {
  readonly log: Logger;
  readonly trace: Trace;
  readonly poller: DescriptorPoller;
  readonly events: EventSink;
  /** Page-aligned memory (sys/memory.ts), for bounce buffers. */
  readonly allocate: (length: number) => IoBuffer;
  /** Default: block/drivers/index.ts. */
  readonly drivers?: { readonly [Name in BlockdevDriver]?: BlockDriver };
}

export interface BlockGraph {
  /** blockdev-add. Throws QmpError; nothing stays open then. */
  add(options: BlockdevOptions): Promise<BlockNode>;
  /** blockdev-del. Throws QmpError when it is in use, a child, or not there. */
  remove(nodeName: string): Promise<void>;
  /** Throws `Cannot find device='..' nor node-name='..'`. */
  find(device: string | undefined, nodeName: string | undefined): BlockNode;
  /** A new owner's handle. Throws QmpError with the conflict text. */
  backend(
    node: BlockNode,
    options: { perm: Permissions; shared: Permissions; name?: string },
  ): BlockBackend;
  /** Newest first, implicit ones included. */
  nodes(): Iterable<BlockNode>;
  /** Runs `work` with no request in flight on any node. */
  drain(): Promise<void>;
  /** Flushes and closes everything. */
  close(): Promise<void>;
}
