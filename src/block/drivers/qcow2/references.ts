// Who uses which clusters of the file, by all tables but the refcounts: what refcounts should be. Counted in windows, so that
// memory stays small however long the file is; tables are read again for each.

import type { IoBuffer } from '../../../base/io-buffer.ts';
import { decodeTableEntry, TABLE_ENTRY } from './bitmap-directory.ts';
import { hex } from './corruption.ts';
import type { Findings } from './findings.ts';
import { MAX_L1 } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { decodeL2, emptyEntry, tableOffset } from './l1-l2.ts';
import { Turns } from './turns.ts';

/** Clusters counted at once: 16 MiB of numbers, or as many as a refcount block counts. */
const WINDOW = 2 ** 22;

/** Of a bitmap's table, read at once. */
const TABLE_PART = 1024 * 1024;
/** Bytes of tables that are gone through before others have their turn. */
export const TURN = 1024 * 1024;
/** Bits that must be zero, in both words of an entry. */
const L1_RESERVED = { high: 0x7f000000, low: 0x1ff };
const L2_RESERVED = { high: 0x3f000000, low: 0x1fe };

export interface Window {
  /** Cluster index of the first count. */
  readonly first: number;
  readonly counts: Uint32Array;
}

export class References {
  readonly #image: Qcow2Image;
  /** In clusters. */
  readonly length: number;
  readonly windowLength: number;
  readonly #table: IoBuffer;
  readonly #turns = new Turns(TURN);
  #findings: Findings | undefined;
  #first = 0;
  #counts = new Uint32Array(0);

  constructor(image: Qcow2Image) {
    const { clusterSize, refcountsPerBlock } = image.geometry;
    this.#image = image;
    this.length = Math.ceil(image.file.node.length / clusterSize);
    this.windowLength = Math.max(WINDOW, refcountsPerBlock);
    this.#table = image.allocate(clusterSize);
  }

  /**
   * Counts the uses of the clusters from `first`, a multiple of `windowLength`, on. The answer is good until the next call.
   * What is odd is told to `findings`. Throws IoError.
   */
  async count(
    first: number,
    options: { readonly findings?: Findings; readonly refcounts: boolean },
  ): Promise<Window> {
    const image = this.#image;
    const length = Math.min(this.windowLength, Math.max(0, this.length - first));
    if (this.#counts.length === length) this.#counts.fill(0);
    else this.#counts = new Uint32Array(length);
    this.#first = first;
    this.#findings = options.findings;
    this.#use(0, image.geometry.clusterSize);
    await this.#walkL1(image.l1.view, image.l1Offset, image.l1Entries);
    await this.#walkSnapshots();
    await this.#walkBitmaps();
    if (options.refcounts) this.#walkRefcounts();
    return { first, counts: this.#counts };
  }

  #use(offset: number, length: number, times = 1): void {
    if (length === 0) return;
    const { clusterSize } = this.#image.geometry;
    const fileLength = this.#image.file.node.length;
    // The last cluster of a file may be there in part.
    if (offset + length - fileLength >= clusterSize) {
      this.#findings?.corruption(
        'ERROR: counting reference for region exceeding the end of the file by one cluster or more: ' +
          `offset 0x${offset.toString(16)} size 0x${length.toString(16)}`,
      );
      return;
    }
    const first = Math.max(this.#first, Math.floor(offset / clusterSize));
    const end = this.#first + this.#counts.length;
    const last = Math.min(end - 1, Math.floor((offset + length - 1) / clusterSize));
    for (let at = first - this.#first; at <= last - this.#first; at++) {
      this.#counts[at] = (this.#counts[at] ?? 0) + times;
    }
  }

  /** A table that an entry leads to more than once is read once. */
  async #walkL1(view: DataView, offset: number, entries: number): Promise<void> {
    if (entries === 0) return;
    const { clusterSize } = this.#image.geometry;
    this.#use(offset, entries * 8);
    const tables: number[] = [];
    for (let index = 0; index < entries; index++) {
      const high = view.getUint32(index * 8);
      const low = view.getUint32(index * 8 + 4);
      if ((high & L1_RESERVED.high) !== 0 || (low & L1_RESERVED.low) !== 0) {
        this.#findings?.corruption(
          `ERROR found L1 entry with reserved bits set: ${entryText(high, low)}`,
        );
      }
      const table = tableOffset(view, index * 8);
      if (table !== 0) tables.push(table);
    }
    const sorted = Float64Array.from(tables).sort();
    for (let index = 0; index < sorted.length; ) {
      const table = sorted[index] ?? 0;
      let times = 0;
      while (sorted[index] === table) {
        index++;
        times++;
      }
      this.#use(table, clusterSize, times);
      if (table % clusterSize !== 0) {
        this.#findings?.corruption(
          `ERROR l2_offset=${table}: Table is not cluster aligned; L1 entry corrupted`,
        );
      }
      if (table < this.#image.file.node.length) await this.#walkL2(table, times);
    }
  }

  async #walkL2(table: number, times: number): Promise<void> {
    const { geometry, file } = this.#image;
    const { clusterSize, l2EntrySize, hasDataFile } = geometry;
    await file.read(table, clusterSize, this.#table, 0);
    await this.#turns.after(clusterSize);
    const { view } = this.#table;
    const entry = emptyEntry();
    for (let at = 0; at < clusterSize; at += l2EntrySize) {
      decodeL2(view, at, geometry, entry);
      this.#checkEntry(at, entry);
      if (hasDataFile) continue;
      if (entry.compressed) this.#use(entry.hostOffset, entry.compressedLength, times);
      else if (entry.allocated) this.#use(entry.hostOffset, clusterSize, times);
    }
  }

  #checkEntry(at: number, entry: ReturnType<typeof emptyEntry>): void {
    const findings = this.#findings;
    if (findings === undefined) return;
    const { clusterSize, hasDataFile, l2EntrySize, subclusters } = this.#image.geometry;
    const { view } = this.#table;
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if (entry.compressed) {
      if (entry.copied) {
        findings.corruption(
          `ERROR: coffset=0x${entry.hostOffset.toString(16)}: copied flag must never be set for compressed clusters`,
        );
      }
      if (hasDataFile) {
        findings.corruption(
          `ERROR compressed cluster ${at / l2EntrySize} with data file, entry=0x${entryText(high, low)}`,
        );
      }
      return;
    }
    if ((high & L2_RESERVED.high) !== 0 || (low & L2_RESERVED.low) !== 0) {
      findings.corruption(`ERROR found l2 entry with reserved bits set: ${entryText(high, low)}`);
    }
    if (!entry.allocated) {
      if (subclusters > 1 && view.getUint32(at + 12) !== 0) {
        findings.corruption('ERROR: Unallocated cluster has non-zero subcluster allocation map');
      }
      return;
    }
    if ((entry.zero & entry.data) !== 0) {
      findings.corruption(
        `ERROR offset=${entry.hostOffset.toString(16)}: Allocated cluster has corrupted subcluster allocation bitmap`,
      );
    }
    if (entry.hostOffset % clusterSize !== 0) {
      const what = entry.data === 0 ? 'Preallocated' : 'Data';
      findings.corruption(
        `ERROR offset=${entry.hostOffset.toString(16)}: ${what} cluster is not properly aligned; L2 entry corrupted.`,
      );
    }
  }

  async #walkSnapshots(): Promise<void> {
    const image = this.#image;
    const { clusterSize, hasDataFile } = image.geometry;
    const { snapshots } = image;
    if (hasDataFile && snapshots.length > 0) {
      this.#findings?.corruption(`ERROR ${snapshots.length} snapshots in image with data file`);
    }
    for (const { id, name, l1Offset, l1Entries } of snapshots) {
      const which = `ERROR snapshot ${id.toString()} (${name.toString()})`;
      if (l1Offset % clusterSize !== 0) {
        this.#findings?.corruption(
          `${which} l1_offset=${hex(l1Offset)}: L1 table is not cluster aligned; snapshot table entry corrupted`,
        );
      } else if (l1Entries * 8 > MAX_L1) {
        this.#findings?.corruption(
          `${which} l1_size=${hex(l1Entries)}: L1 table is too large; snapshot table entry corrupted`,
        );
      } else if (l1Offset + l1Entries * 8 <= image.file.node.length) {
        const l1 = image.allocate(Math.max(8, l1Entries * 8));
        await image.file.read(l1Offset, l1Entries * 8, l1, 0);
        await this.#walkL1(l1.view, l1Offset, l1Entries);
      } else {
        this.#use(l1Offset, l1Entries * 8);
      }
    }
    this.#use(image.snapshotsOffset, image.snapshotsLength);
  }

  async #walkBitmaps(): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const { offset, length, bitmaps } = image.bitmaps;
    this.#use(offset, length);
    const part = image.allocate(TABLE_PART);
    for (const { tableOffset: place, tableSize } of bitmaps) {
      const table = Number(place);
      this.#use(table, tableSize * TABLE_ENTRY);
      const end = Math.min(table + tableSize * TABLE_ENTRY, image.file.node.length);
      for (let at = table; at < end; at += part.bytes.length) {
        const bytes = Math.min(part.bytes.length, end - at);
        await image.file.read(at, bytes, part, 0);
        await this.#turns.after(bytes);
        for (let index = 0; index + TABLE_ENTRY <= bytes; index += TABLE_ENTRY) {
          const entry = decodeTableEntry(part.view, index, clusterSize);
          if (entry === undefined) this.#findings?.corruption();
          else if (typeof entry === 'number') this.#use(entry, clusterSize);
        }
      }
    }
  }

  #walkRefcounts(): void {
    const { refcountTableEntries, refcountTableOffset, geometry } = this.#image;
    this.#use(refcountTableOffset, refcountTableEntries * 8);
    for (let index = 0; index < refcountTableEntries; index++) {
      const offset = blockPlace(this.#image, index);
      if (typeof offset === 'number' && offset !== 0) this.#use(offset, geometry.clusterSize);
    }
  }
}

/** Why a refcount block cannot be where the table says. */
export type BrokenPlace = 'reserved' | 'unaligned' | 'outside';

/** Where the block with that index is; 0 for none. */
export function blockPlace(image: Qcow2Image, index: number): number | BrokenPlace {
  const { refcountTable, geometry, file } = image;
  const high = refcountTable.view.getUint32(index * 8);
  const low = refcountTable.view.getUint32(index * 8 + 4);
  if ((low & 0x1ff) !== 0) return 'reserved';
  const offset = high * 2 ** 32 + low;
  if (offset % geometry.clusterSize !== 0) return 'unaligned';
  return offset >= file.node.length ? 'outside' : offset;
}

function entryText(high: number, low: number): string {
  return ((BigInt(high) << 32n) | BigInt(low)).toString(16);
}
