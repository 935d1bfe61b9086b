// What command handlers may use of the daemon. src/daemon.ts implements it; tests give handlers just what they need.

import type { Logger } from '../base/log.ts';
import type { Engine } from '../engine.ts';
import type { ChardevRegistry } from '../net/chardev/chardev-registry.ts';
import type { ObjectRegistry } from '../object/object-registry.ts';
import type { QomNode } from '../object/qom-tree.ts';

export interface DaemonServices {
  /** The block graph, the exports and the jobs. */
  readonly engine: Engine;
  readonly chardevs: ChardevRegistry;
  readonly objects: ObjectRegistry;
  /** The object model as it is now: objects, chardevs. */
  objectModel(): QomNode;
  readonly log: Logger;
  /** Our own name and version, as `query-version` tells it: `qmp-storage-daemon 0.1.0`. */
  readonly packageName: string;
  /**
   * Begins the orderly end. Resolves when exports, jobs and nodes are closed and their events are out; monitors are still
   * there then, so that the `quit` that asked for it is answered. They close last.
   */
  quit(): Promise<void>;
}
