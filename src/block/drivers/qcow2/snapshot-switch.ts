// Internal snapshots change how many users nearly every cluster has, and with that which of them the active tables may call
// their own. Both are on disk in many places, so new tables are written beside those in use: refcount blocks, the active L2
// tables that change, L1, refcount and snapshot table. One write to the header, which has the places of all of them in a row,
// then has the image use them. Whatever ends the process before leaves the image as it was, with clusters that nobody uses.

import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { adjustUsers, miscounted, usersOf } from './cluster-users.ts';
import { corruption, hex } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import {
  decodeL2,
  emptyEntry,
  type L2Entry,
  putCopied,
  putTableOffset,
  putU64,
  tableOffset,
} from './l1-l2.ts';
import { settle } from './refcount.ts';
import { blockOffset, loadBlock } from './refcount-block.ts';
import { encodeSnapshots, type Snapshot } from './snapshot.ts';
import { discardFreed, type ReplacedBlock } from './snapshot-discard.ts';
import { writePlaces } from './snapshot-places.ts';
import { type Reserve, releaseClusters, reserveClusters } from './snapshot-reserve.ts';

/** So many L2 tables, and others have their turn. */
const TABLES_AT_ONCE = 16;

/** An L1 table: memory, and where it is on disk. */
export interface L1Table {
  readonly view: DataView;
  readonly offset: number;
  readonly entries: number;
}

export interface TableChange {
  /** All that this table leads to has a user more, or less. */
  readonly l1: L1Table;
  readonly addend: 1 | -1;
  readonly snapshots: readonly Snapshot[];
  /** L1 tables that nobody uses any more. */
  readonly frees: readonly L1Table[];
}

/**
 * Carries a change out, or throws IoError and leaves everything as it was. The image's lock is held, and no write is under way.
 */
export async function switchTables(image: Qcow2Image, change: TableChange): Promise<void> {
  // What was freed before is discarded now: afterwards nobody knows of it.
  await settle(image);
  const table = encodeSnapshots(change.snapshots);
  const reserve = await reserveClusters(image, table.length);
  const next = new NextTables(image, reserve, table);
  try {
    await next.prepare(change);
  } catch (error) {
    await next.giveUp();
    throw error;
  }
  await next.takeEffect(change.snapshots);
}

class NextTables {
  readonly #image: Qcow2Image;
  readonly #reserve: Reserve;
  readonly #snapshotTable: Buffer;
  readonly #oldRefcountTable: IoBuffer;
  /** Copies of tables, which stay good while others are asked for. */
  readonly #scratch: IoBuffer;
  readonly #l1: IoBuffer;
  readonly #blocks: ReplacedBlock[] = [];
  /** L2 tables that are new, and those that nobody uses any more. */
  readonly #newL2: number[] = [];
  readonly #goneL2: number[] = [];
  #singlesUsed = 0;
  #tablesSeen = 0;

  constructor(image: Qcow2Image, reserve: Reserve, snapshotTable: Buffer) {
    this.#image = image;
    this.#reserve = reserve;
    this.#snapshotTable = snapshotTable;
    this.#oldRefcountTable = image.refcountTable;
    this.#scratch = image.allocate(image.geometry.clusterSize);
    this.#l1 = image.allocate(Math.max(8, reserve.l1.count * image.geometry.clusterSize));
    image.l1.bytes.copy(this.#l1.bytes, 0, 0, image.l1Entries * 8);
  }

  /** Everything is on disk, and nothing uses it. From here until it is over, refcounts are the new ones. */
  async prepare({ l1, addend, frees }: TableChange): Promise<void> {
    const image = this.#image;
    await this.#copyRefcounts();
    await this.#countUsers(l1, addend);
    await this.#refreshActive();
    await this.#releaseOld(frees);
    await image.l2Cache.write();
    await image.refcountCache.write();
    await this.#writeTables();
    await image.file.flush();
  }

  /** Nothing was changed that is in use. */
  async giveUp(): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    image.refcountTable = this.#oldRefcountTable;
    for (const { next } of this.#blocks) image.refcountCache.forget(next, clusterSize);
    for (const offset of this.#newL2) image.l2Cache.forget(offset, clusterSize);
    await releaseClusters(image, this.#reserve.all);
  }

  /** The image uses the new tables. Throws IoError when it still uses the old ones. */
  async takeEffect(snapshots: readonly Snapshot[]): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const { l1, refcountTable, snapshots: tableRun } = this.#reserve;
    const offsets = {
      // A disk without any length has no L1 table.
      l1: l1.count === 0 ? image.l1Offset : l1.first * clusterSize,
      refcountTable: refcountTable.first * clusterSize,
      snapshots: tableRun.first * clusterSize,
    };
    try {
      await writePlaces(image, {
        ...offsets,
        l1Entries: image.l1Entries,
        refcountTableClusters: refcountTable.count,
        snapshotCount: snapshots.length,
      });
    } catch (error) {
      if (!image.unusable) await this.giveUp();
      throw error;
    }
    image.l1 = this.#l1;
    image.l1Offset = offsets.l1;
    image.refcountTableOffset = offsets.refcountTable;
    image.refcountTableEntries = (refcountTable.count * clusterSize) / 8;
    image.snapshots = snapshots;
    image.snapshotsOffset = offsets.snapshots;
    image.snapshotsLength = this.#snapshotTable.length;
    for (const { old } of this.#blocks) image.refcountCache.forget(old, clusterSize);
    for (const offset of this.#goneL2) image.l2Cache.forget(offset, clusterSize);
    image.unsettled.clear();
    image.freeIndex = 0;
    image.compressedEnd = 0;
    image.metadata = undefined;
    await discardFreed(image, this.#blocks);
  }

  async #copyRefcounts(): Promise<void> {
    const image = this.#image;
    const { clusterSize, refcountsPerBlock } = image.geometry;
    const table = image.allocate(this.#reserve.refcountTable.count * clusterSize);
    for (let index = 0; index < image.refcountTableEntries; index++) {
      const old = blockOffset(image, index * refcountsPerBlock);
      if (old === 0) continue;
      (await loadBlock(image, old)).buffer.bytes.copy(this.#scratch.bytes);
      const next = this.#takeSingle();
      const block = await image.refcountCache.create(next);
      this.#scratch.bytes.copy(block.buffer.bytes, 0, 0, clusterSize);
      putU64(table.view, index * 8, next);
      this.#blocks.push({ index, old, next });
      await this.#letOthersIn();
    }
    image.refcountTable = table;
  }

  /** All clusters that an L1 table leads to, L2 tables too, have a user more or less. */
  async #countUsers({ view, entries }: L1Table, addend: 1 | -1): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const seen = new Set<number>();
    for (let index = 0; index < entries; index++) {
      const offset = tableOffset(view, index * 8);
      if (offset === 0) continue;
      if (offset % clusterSize !== 0) {
        throw corruption(
          image,
          `L2 table offset ${hex(offset)} unaligned (L1 index: ${hex(index)})`,
        );
      }
      // Nobody makes such tables, and they could keep us busy for ever.
      if (seen.has(offset)) throw miscounted(image, offset / clusterSize);
      seen.add(offset);
      // It exists, before anything in it is looked at.
      await adjustUsers(image, { first: offset / clusterSize, count: 1 }, addend);
      await this.#countClusters(offset, addend);
      if (addend < 0 && (await usersOf(image, offset / clusterSize)) === 0)
        this.#goneL2.push(offset);
    }
  }

  async #countClusters(table: number, addend: 1 | -1): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    let run = { first: 0, count: 0 };
    const count = async (first: number, last: number): Promise<void> => {
      if (run.first + run.count !== first) {
        await adjustUsers(image, run, addend);
        run = { first, count: 0 };
      }
      run.count += last - first + 1;
    };
    await this.#eachEntry(table, (entry) => {
      if (!entry.compressed && !entry.allocated) return undefined;
      const length = entry.compressed ? entry.compressedLength : 1;
      const first = Math.floor(entry.hostOffset / clusterSize);
      return count(first, Math.floor((entry.hostOffset + length - 1) / clusterSize));
    });
    await adjustUsers(image, run, addend);
  }

  /** Active tables tell what is theirs alone; those that would have to change are replaced. */
  async #refreshActive(): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const { view } = this.#l1;
    for (let index = 0; index < image.l1Entries; index++) {
      const old = tableOffset(view, index * 8);
      if (old === 0) continue;
      let offset = old;
      if (await this.#mustChange(old)) {
        offset = this.#takeSingle();
        await this.#copyTable(old, offset);
        await adjustUsers(image, { first: old / clusterSize, count: 1 }, -1);
        if ((await usersOf(image, old / clusterSize)) === 0) this.#goneL2.push(old);
      }
      const users = await usersOf(image, offset / clusterSize);
      if (users === 0) throw miscounted(image, offset / clusterSize);
      putTableOffset(view, index * 8, offset);
      putCopied(view, index * 8, users === 1);
    }
  }

  async #mustChange(table: number): Promise<boolean> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    let found = false;
    await this.#eachEntry(table, async (entry) => {
      if (found || entry.compressed || !entry.allocated) return;
      const users = await usersOf(image, entry.hostOffset / clusterSize);
      if (users === 0) throw miscounted(image, entry.hostOffset / clusterSize);
      if ((users === 1) !== entry.copied) found = true;
    });
    return found;
  }

  async #copyTable(old: number, offset: number): Promise<void> {
    const image = this.#image;
    const { geometry, l2Cache } = image;
    const { clusterSize, sliceSize, l2EntrySize } = geometry;
    const { view, bytes } = this.#scratch;
    const entry = emptyEntry();
    this.#newL2.push(offset);
    for (let slice = 0; slice < clusterSize; slice += sliceSize) {
      (await l2Cache.get(old + slice)).buffer.bytes.copy(bytes);
      for (let at = 0; at < sliceSize; at += l2EntrySize) {
        decodeL2(view, at, geometry, entry);
        if (entry.compressed || !entry.allocated) continue;
        const later = usersOf(image, entry.hostOffset / clusterSize);
        putCopied(view, at, (typeof later === 'number' ? later : await later) === 1);
      }
      const table = await l2Cache.create(offset + slice);
      bytes.copy(table.buffer.bytes, 0, 0, sliceSize);
    }
  }

  /** Goes through an L2 table. What is done about an entry may use the refcounts, but no other L2 table. */
  async #eachEntry(table: number, work: (entry: L2Entry) => MaybePromise<void>): Promise<void> {
    const image = this.#image;
    const { geometry, l2Cache } = image;
    const { clusterSize, sliceSize, l2EntrySize } = geometry;
    const entry = emptyEntry();
    for (let slice = 0; slice < clusterSize; slice += sliceSize) {
      const { view } = await l2Cache.get(table + slice);
      for (let at = 0; at < sliceSize; at += l2EntrySize) {
        decodeL2(view, at, geometry, entry);
        if (entry.allocated && entry.hostOffset % clusterSize !== 0) {
          throw corruption(
            image,
            `Cluster allocation offset ${hex(entry.hostOffset)} unaligned (L2 offset: ` +
              `${hex(table)}, L2 index: ${hex((slice + at) / l2EntrySize)})`,
          );
        }
        const later = work(entry);
        if (later !== undefined) await later;
      }
    }
    await this.#letOthersIn();
  }

  /** What the new tables replace, and what was taken and not used. */
  async #releaseOld(frees: readonly L1Table[]): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    image.file.debugEvent('cluster_free');
    const release = (offset: number, bytes: number): Promise<void> =>
      adjustUsers(
        image,
        { first: offset / clusterSize, count: Math.ceil(bytes / clusterSize) },
        -1,
      );
    for (const { old } of this.#blocks) await release(old, clusterSize);
    await release(image.refcountTableOffset, image.refcountTableEntries * 8);
    await release(image.snapshotsOffset, image.snapshotsLength);
    for (const { offset, entries } of frees) await release(offset, entries * 8);
    for (const first of this.#reserve.singles.slice(this.#singlesUsed)) {
      await adjustUsers(image, { first, count: 1 }, -1);
    }
  }

  async #writeTables(): Promise<void> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const { l1, refcountTable, snapshots } = this.#reserve;
    const snapshotTable = image.allocate(Math.max(1, snapshots.count * clusterSize));
    this.#snapshotTable.copy(snapshotTable.bytes);
    const tables = [
      [l1, this.#l1],
      [refcountTable, image.refcountTable],
      [snapshots, snapshotTable],
    ] as const;
    for (const [{ first, count }, buffer] of tables) {
      if (count > 0) await image.file.write(first * clusterSize, count * clusterSize, buffer, 0);
    }
  }

  /** The offset of a cluster for a refcount block or an L2 table. */
  #takeSingle(): number {
    const cluster = this.#reserve.singles[this.#singlesUsed++];
    if (cluster === undefined) throw new Error('Not enough clusters were taken');
    return cluster * this.#image.geometry.clusterSize;
  }

  /** Tables that are cached are gone through without waiting for anything. */
  async #letOthersIn(): Promise<void> {
    if (++this.#tablesSeen % TABLES_AT_ONCE === 0) await new Promise(setImmediate);
  }
}
