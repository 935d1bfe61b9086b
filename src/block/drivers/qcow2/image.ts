// An open image: what the header says about its layout, its tables in memory, and what is under way.

import type { IoBuffer } from '../../../base/io-buffer.ts';
import type { Logger } from '../../../base/log.ts';
import type { Mutex } from '../../../base/mutex.ts';
import type { EventSink } from '../../../qapi/event-sink.ts';
import type { BlockChild } from '../../block-child.ts';
import type { BlockNode } from '../../block-node.ts';
import type { Allocation } from './allocation.ts';
import type { BitmapList } from './bitmap-list.ts';
import type { Compress, Decompress } from './compression.ts';
import type { HeaderExtension } from './header-extensions.ts';
import type { L2Entry } from './l1-l2.ts';
import type { Mapping } from './mapping.ts';
import type { ImageSettings } from './options.ts';
import type { MetadataMap } from './overlap.ts';
import type { Snapshot } from './snapshot.ts';
import type { TableCache } from './table-cache.ts';

/** Sizes that never change while an image is open; bytes unless said. */
export interface Geometry {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** 32 with extended L2 entries, else 1: then a subcluster is the cluster. */
  readonly subclusters: number;
  readonly subclusterSize: number;
  readonly l2EntrySize: 8 | 16;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that an L2 table maps. */
  readonly l2Coverage: number;
  /** Bytes of the part of an L2 table that is cached as one. */
  readonly sliceSize: number;
  readonly refcountOrder: number;
  readonly refcountBits: number;
  /** Refcounts in a refcount block. */
  readonly refcountsPerBlock: number;
  readonly hasDataFile: boolean;
}

/** A write to clusters that are allocated already, in flight: they must not be given to others meanwhile. */
export interface InPlaceWrite {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<unknown>;
}

/** What node.state of a qcow2 node is. */
export interface Qcow2Image {
  readonly node: BlockNode;
  readonly log: Logger;
  readonly events: EventSink;
  readonly allocate: (length: number) => IoBuffer;
  geometry: Geometry;
  /** Metadata, and data unless there is an external data file. */
  readonly file: BlockChild;
  readonly dataFile: BlockChild;

  /** The disk, bytes. */
  size: number;
  /** The L1 table as it is on disk. */
  l1: IoBuffer;
  l1Entries: number;
  l1Offset: number;
  /** The refcount table as it is on disk. */
  refcountTable: IoBuffer;
  refcountTableEntries: number;
  refcountTableOffset: number;
  l2Cache: TableCache;
  refcountCache: TableCache;
  /** The table of internal snapshots as it is on disk. */
  snapshots: readonly Snapshot[];
  snapshotsOffset: number;
  /** Bytes. */
  snapshotsLength: number;

  /** As they are on disk; those of the node are newer. */
  bitmaps: BitmapList;

  incompatible: bigint;
  readonly compatible: bigint;
  autoclear: bigint;
  readonly compressionType: number;
  readonly decompress: Decompress;
  readonly compress: Compress;
  /** As the header has them; undefined for none. */
  backingFilename: string | undefined;
  backingFormat: string | undefined;
  dataFilename: string | undefined;
  /** What else of the header is written again with it: all that nobody here knows. */
  readonly unknownExtensions: readonly HeaderExtension[];
  /** Header fields behind those that are known. */
  readonly unknownFields: Buffer;
  /** What the backing file is called when it is the header's; undefined when there is none in the header. */
  automaticBacking: string | undefined;

  /** Held while tables are changed, or loaded into a cache. */
  readonly lock: Mutex;
  /** Writes to guest clusters that the L2 tables do not show yet. */
  readonly allocations: Allocation[];
  readonly inPlaceWrites: InPlaceWrite[];
  /** No host cluster below this index is free. */
  freeIndex: number;
  /** Where the next compressed cluster may begin, bytes: behind the last one, in its cluster. 0 for in a new one. */
  compressedEnd: number;
  /**
   * Host clusters that were freed while the L2 tables on disk may still use them: not to be given to others, and to be discarded
   * in the file (`true`) only when the tables are written.
   */
  readonly unsettled: Map<number, boolean>;
  /** L2 tables of snapshots, where they are guarded. */
  inactiveTables: readonly number[];
  /** Where the metadata lie; made when something is first written. */
  metadata: MetadataMap | undefined;
  settings: ImageSettings;
  /** Corruption was found: every request fails. */
  unusable: boolean;
  corruptionReported: boolean;
  cleanTimer: NodeJS.Timeout | undefined;
  /** What code that does not wait decodes into. */
  readonly scratch: L2Entry;
  readonly scratchNext: L2Entry;
  readonly scratchMapping: Mapping;
}

export type Qcow2Node = BlockNode<Qcow2Image>;
