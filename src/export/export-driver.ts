// What an export type is: a row of functions. The common life of exports is block-export.ts.

import type { DirtyBitmap } from '../block/dirty-bitmap.ts';
import type {
  BlockDirtyBitmap,
  BlockExportOptions,
  BlockExportType,
  XBlockExportRemoveMode,
} from '../qapi/generated/types.ts';
import type { BlockExport } from './block-export.ts';
import type { NbdServer } from './nbd/server.ts';

/** What an export type may use. */
export interface ExportContext {
  /** The NBD server, while there is one. */
  readonly nbdServer: NbdServer | undefined;
  /** Throws QmpError when there is no such bitmap. */
  findDirtyBitmap(which: BlockDirtyBitmap): DirtyBitmap;
}

/** An export at work, seen from its common part. */
export interface RunningExport {
  /** Takes no new clients. Those there are go on (`hide`), or get errors for whatever else they ask (`soft`). */
  retire(mode: XBlockExportRemoveMode): void;
  /** Takes no new clients and asks those there are to go. Each holds a reference until it has gone. */
  requestShutdown(): void;
  /** Nobody refers to it any more. */
  delete(): void;
}

export interface ExportDriver<Type extends BlockExportType = BlockExportType> {
  /** Starts an export. Throws QmpError. */
  create(
    common: BlockExport,
    options: Extract<BlockExportOptions, { type: Type }>,
    context: ExportContext,
  ): RunningExport;
}
