// A node of the graph: one opened image, device or filter, with its settings, its limits and its edges.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevDetectZeroesOptions, BlockdevOptions } from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import type { BlockDriver, BlockLimits, Permissions, RequestFlags } from './block-driver.ts';
import { PERM_ALL } from './block-driver.ts';
import type { BouncePool } from './bounce-pool.ts';
import type { DirtyBitmap } from './dirty-bitmap.ts';
import { type FlatOptions, flatten } from './flat-options.ts';
import type { InternalBitmap } from './internal-bitmap.ts';
import { RequestTracker } from './tracked-requests.ts';

/** Lengths of nodes are multiples of this; the tail of the last one reads as zeroes. */
export const SECTOR = 512;

/** A node that is opening is known by name but cannot be asked anything; one that is closing can no longer be found. */
export type NodePhase = 'opening' | 'open' | 'closing';

export interface NodeSettings {
  readonly nodeName: string;
  readonly driver: BlockDriver;
  readonly options: BlockdevOptions;
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly forceShare: boolean;
  readonly active: boolean;
  readonly cacheDirect: boolean;
  readonly cacheNoFlush: boolean;
  /** `discard: 'unmap'`: discards and MAY_UNMAP reach the driver. */
  readonly unmap: boolean;
  readonly detectZeroes: BlockdevDetectZeroesOptions;
  /** The graph's memory for bounce buffers. */
  readonly pool: BouncePool;
}

export class BlockNode<State = unknown> {
  readonly nodeName: string;
  readonly driver: BlockDriver<State>;
  /** The options it was opened with, its own only: children appear as given, and not at all after a reopening. */
  options: BlockdevOptions;
  /** Those and the settings that came from elsewhere, as flat names: what reopening starts from. */
  effectiveOptions: FlatOptions;
  /** What the driver's open answered. */
  state!: State;

  readOnly: boolean;
  autoReadOnly: boolean;
  readonly forceShare: boolean;
  /** False: others may change the image meanwhile, so nothing is written, and nothing relied upon; see activation.ts. */
  active: boolean;
  cacheDirect: boolean;
  cacheNoFlush: boolean;
  unmap: boolean;
  detectZeroes: BlockdevDetectZeroesOptions;
  readonly pool: BouncePool;

  supportedReadFlags: RequestFlags = 0;
  supportedWriteFlags: RequestFlags = 0;
  supportedZeroFlags: RequestFlags = 0;
  supportedTruncateFlags: RequestFlags = 0;
  limits: BlockLimits = defaultLimits();

  /** In the order in which they were attached. */
  readonly children: BlockChild[] = [];
  readonly parents: BlockChild[] = [];
  file: BlockChild | undefined = undefined;
  backing: BlockChild | undefined = undefined;

  /** The node it was defined inside: settings it was not given come from there. */
  inheritsFrom: BlockNode | undefined = undefined;
  /** Added by blockdev-add and not yet deleted. */
  monitorOwned = false;
  /** How many make no requests, but want it to stay. */
  holds = 0;
  phase: NodePhase = 'opening';
  /** All users together, as last set. */
  perm: Permissions = 0;
  sharedPerm: Permissions = PERM_ALL;

  readonly requests = new RequestTracker();
  /** Counts completed writes; a flush covers those up to the count at its start. */
  writeGeneration = 0;
  flushedGeneration = 0;
  flushing: Promise<void> | undefined = undefined;
  /** End of the highest write, for query-blockstats. */
  writeHighestOffset = 0;
  /** Depth of drained sections. */
  drained = 0;
  /** A write that goes beyond this offset is told of, once; 0 for none. */
  writeThreshold = 0;
  onThreshold: (exceededBy: number, threshold: number) => void = () => {};
  /** What drivers and jobs keep for themselves, which is told of, too. The newest first. */
  readonly internalBitmaps: InternalBitmap[] = [];
  /** The newest first. */
  readonly dirtyBitmaps: DirtyBitmap[] = [];

  #length = 0;

  constructor(settings: NodeSettings) {
    this.nodeName = settings.nodeName;
    this.driver = settings.driver as BlockDriver<State>;
    this.options = settings.options;
    this.effectiveOptions = { ...settingsAsOptions(settings), ...flatten(settings.options) };
    this.readOnly = settings.readOnly;
    this.autoReadOnly = settings.autoReadOnly;
    this.forceShare = settings.forceShare;
    this.active = settings.active;
    this.cacheDirect = settings.cacheDirect;
    this.cacheNoFlush = settings.cacheNoFlush;
    this.unmap = settings.unmap;
    this.detectZeroes = settings.detectZeroes;
    this.pool = settings.pool;
  }

  /** Bytes, a multiple of SECTOR. */
  get length(): number {
    if (this.driver.variableLength === true) this.refreshLength();
    return this.#length;
  }

  /** It may be written to. */
  get writable(): boolean {
    return !this.readOnly && this.active;
  }

  /** Asks the driver again. Throws IoError. */
  refreshLength(): void {
    this.#length = roundedLength(this.driver.length(this));
  }

  /** For a driver that cannot open read-write: makes the node read-only if that is allowed, else throws `message`. */
  applyAutoReadOnly(message: string): void {
    if (this.readOnly) return;
    if (!this.autoReadOnly) throw new QmpError(message);
    this.readOnly = true;
  }

  /** Throws IoError while a bitmap is that must not change: nothing may be written then. */
  checkBitmapsWritable(offset: number): void {
    for (const bitmap of this.dirtyBitmaps) {
      if (bitmap.readOnly) throw new IoError(errno.EPERM, { syscall: 'write', offset });
    }
  }

  /** Before anything is written, discarded or made zero up to `end`; only asked where there is a threshold. */
  passThreshold(end: number): void {
    const threshold = this.writeThreshold;
    if (end <= threshold) return;
    this.writeThreshold = 0;
    this.onThreshold(end - threshold, threshold);
  }

  /** The books of a completed write. */
  wrote(offset: number, length: number): void {
    const end = offset + length;
    this.writeGeneration++;
    if (end > this.writeHighestOffset) this.writeHighestOffset = end;
    if (this.driver.variableLength !== true && end > this.#length) {
      this.#length = roundedLength(end);
      this.resized();
    }
    if (this.dirtyBitmaps.length > 0) {
      for (const bitmap of this.dirtyBitmaps) {
        if (end > bitmap.length) bitmap.truncate(roundedLength(end));
      }
      this.markDirty(offset, length);
    }
  }

  /** The books of a write that failed: a part of it may have been written. */
  failedToWrite(offset: number, length: number): void {
    const end = offset + length;
    this.writeGeneration++;
    if (end > this.writeHighestOffset) this.writeHighestOffset = end;
    if (this.dirtyBitmaps.length > 0) this.markDirty(offset, length);
  }

  /** The books of a discard, whatever came of it. */
  discarded(offset: number, length: number): void {
    this.writeGeneration++;
    if (this.dirtyBitmaps.length > 0) this.markDirty(offset, length);
  }

  /** Makes an area dirty in the bitmaps that note writes. */
  markDirty(offset: number, length: number): void {
    for (const bitmap of this.dirtyBitmaps) {
      if (bitmap.enabled) bitmap.mark(offset, length);
    }
  }

  /** The books of a truncation. */
  truncated(): void {
    this.writeGeneration++;
    this.refreshLength();
    this.lengthChanged();
  }

  /** The length is another one than before, by whomever it was changed. */
  lengthChanged(): void {
    for (const bitmap of this.dirtyBitmaps) bitmap.truncate(this.length);
    for (const bitmap of this.internalBitmaps) bitmap.truncate(this.length);
    this.resized();
  }

  /** Tells the users that the length changed. */
  resized(): void {
    for (const user of this.parents) user.parent.resized();
  }

  /** The filter's one child, whichever name it has. */
  get filtered(): BlockChild | undefined {
    return this.driver.kind === 'filter' ? (this.file ?? this.backing) : undefined;
  }
}

function settingsAsOptions(settings: NodeSettings): FlatOptions {
  return {
    'cache.direct': settings.cacheDirect,
    'cache.no-flush': settings.cacheNoFlush,
    'read-only': settings.readOnly,
    'auto-read-only': settings.autoReadOnly,
    discard: settings.unmap ? 'unmap' : 'ignore',
    ...(settings.forceShare ? { 'force-share': true } : {}),
  };
}

/** Limits of a driver that says nothing. */
export function defaultLimits(): BlockLimits {
  return {
    requestAlignment: 1,
    zeroAlignment: 0,
    discardAlignment: 0,
    maxTransfer: 0,
    maxWriteZeroes: 0,
    maxDiscard: 0,
    optTransfer: 0,
    memoryAlignment: 1,
  };
}

function roundedLength(length: number): number {
  const rounded = Math.ceil(length / SECTOR) * SECTOR;
  if (rounded > Number.MAX_SAFE_INTEGER) throw new IoError(errno.EFBIG, { syscall: 'length' });
  return rounded;
}
