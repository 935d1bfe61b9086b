// What an export type is: a row of functions. The common life of exports is block-export.ts.

import type { MaybePromise } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import type { DirtyBitmap } from '../block/dirty-bitmap.ts';
import type {
  BlockDirtyBitmap,
  BlockExportOptions,
  BlockExportType,
  XBlockExportRemoveMode,
} from '../qapi/generated/types.ts';
import type { EventSignaller } from '../sys/event-signal.ts';
import type { Poller } from '../sys/poller.ts';
import type { BlockExport } from './block-export.ts';
import type { Ending } from './closing-order.ts';
import type { TransferBuffers } from './fuse/buffers.ts';
import type { Mountpoints } from './fuse/mountpoint.ts';
import type { NbdServer } from './nbd/server.ts';

/** What an export type may use. */
export interface ExportContext {
  readonly trace: Trace;
  /** What FUSE exports share. */
  readonly fuse: { readonly mountpoints: Mountpoints; readonly buffers: TransferBuffers };
  /** The NBD server, while there is one. */
  readonly nbdServer: NbdServer | undefined;
  readonly poller: Poller;
  readonly signals: EventSignaller;
  readonly log: Logger;
  /** Whether an `fd` address is a descriptor number (command line) or a monitor's name for one. */
  readonly fdsByNumber: boolean;
  /** Throws QmpError when there is no such bitmap. */
  findDirtyBitmap(which: BlockDirtyBitmap): DirtyBitmap;
}

/** An export at work, seen from its common part. */
export interface RunningExport {
  /** Takes no new clients. Those there are go on (`hide`), or get errors for whatever else they ask (`soft`). Does not reject. */
  retire(mode: XBlockExportRemoveMode): MaybePromise<void>;
  /** Takes no new clients and asks those there are to go. Each holds a reference until it has gone. */
  requestShutdown(): void;
  /** What its end would take now. Default: nothing, it ends at once. */
  ending?(): Ending;
  /** Nobody refers to it any more. Settles when it uses its node no longer; does not reject. */
  delete(): MaybePromise<void>;
}

export interface ExportDriver<Type extends BlockExportType = BlockExportType> {
  /** It knows what may not be done to an inactive node; other types have it made active. */
  readonly supportsInactive?: true;
  /** Starts an export. Throws or rejects QmpError. */
  create(
    common: BlockExport,
    options: Extract<BlockExportOptions, { type: Type }>,
    context: ExportContext,
  ): MaybePromise<RunningExport>;
}
