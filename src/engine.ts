// One thread's block graph, exports and jobs: validated commands go in, results and events come out. Nothing here knows of
// monitors or the command line, so that an engine can run in another thread.

import type { Logger } from './base/log.ts';
import type { Trace } from './base/trace.ts';
import { BlockGraph } from './block/block-graph.ts';
import type { Breakpoints } from './block/debug-breakpoints.ts';
import { breakpointsOf } from './block/drivers/blkdebug.ts';
import { ExportManager } from './export/export-manager.ts';
import { JobRegistry } from './job/job-registry.ts';
import type { ObjectLookup } from './object/user-object.ts';
import { QmpError } from './qapi/errors.ts';
import type { EventSink } from './qapi/event-sink.ts';
import { SharedRing } from './sys/io-uring.ts';
import { allocate } from './sys/memory.ts';
import type { Poller } from './sys/poller.ts';

export interface EngineOptions {
  readonly log: Logger;
  readonly trace: Trace;
  readonly events: EventSink;
  readonly objects: ObjectLookup;
  readonly poller: Poller;
  /** Lines for the person who started the daemon. */
  readonly print: (text: string) => void;
}

export class Engine {
  readonly graph: BlockGraph;
  readonly exports: ExportManager;
  readonly jobs: JobRegistry;
  readonly #ring: SharedRing;
  #closing: Promise<void> | undefined;

  constructor(options: EngineOptions) {
    this.#ring = new SharedRing(options.poller);
    this.graph = new BlockGraph({ ...options, allocate, ring: this.#ring.get });
    this.exports = new ExportManager({ ...options, graph: this.graph });
    this.jobs = new JobRegistry(options);
  }

  /** What makes requests wait at a blkdebug node. Throws QmpError when there is no such node. */
  breakpoints(nodeName: string): Breakpoints {
    const found = breakpointsOf(this.graph.find(undefined, nodeName));
    if (found === undefined) throw new QmpError(`Node '${nodeName}' is not a blkdebug node`);
    return found;
  }

  /** Ends exports, then jobs, then nodes; the events of it are out when this resolves. Repeated calls share one end. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // Nobody is going to resume what waits there.
    for (const node of this.graph.nodes()) breakpointsOf(node)?.removeAll();
    this.graph.stopWaiting();
    await this.exports.close();
    await this.jobs.close();
    await this.graph.close();
    await this.#ring.close();
  }
}
