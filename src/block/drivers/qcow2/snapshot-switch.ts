// Internal snapshots change how many users nearly every cluster has, and with that which of them the active tables may call
// their own. Both are on disk in many places, so new tables are written beside those in use: refcount blocks, the active L2
// tables that change, L1, refcount and snapshot table. One write to the header, which has the places of all of them in a row,
// then has the image use them. Whatever ends the process before leaves the image as it was, with clusters that nobody uses.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { corruption, hex } from './corruption.ts';
import { AT_L1_SIZE } from './header.ts';
import { allocateClusters } from './host-clusters.ts';
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
import { freeClusters, settle } from './refcount.ts';
import {
  blockOffset,
  type ClusterRun,
  getRefcount,
  loadBlock,
  setRefcount,
} from './refcount-block.ts';
import { encodeSnapshots, type Snapshot } from './snapshot.ts';

/** From l1_size to snapshots_offset. */
const PLACES_LENGTH = 36;
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

/** Clusters that are taken for the new tables. */
interface Reserve {
  readonly l1: ClusterRun;
  readonly snapshots: ClusterRun;
  readonly refcountTable: ClusterRun;
  /** One each for refcount blocks and L2 tables. */
  readonly singles: number[];
  readonly all: readonly ClusterRun[];
}

const nothing: ClusterRun = { first: 0, count: 0 };

async function reserveClusters(image: Qcow2Image, snapshotsLength: number): Promise<Reserve> {
  const { clusterSize } = image.geometry;
  const all: ClusterRun[] = [];
  const take = async (wanted: number, minimum: number): Promise<ClusterRun> => {
    if (wanted === 0) return nothing;
    const run = await allocateClusters(image, wanted, minimum);
    all.push(run);
    return run;
  };
  const row = (bytes: number): Promise<ClusterRun> => {
    const count = Math.ceil(bytes / clusterSize);
    return take(count, count);
  };
  try {
    const l1 = await row(image.l1Entries * 8);
    const snapshots = await row(snapshotsLength);
    const l2Tables = countTables(image.l1.view, image.l1Entries);
    checkTablesExist(image, l2Tables);
    let refcountTable = nothing;
    const singles: number[] = [];
    // Taking clusters may add refcount blocks, and those make the table longer.
    for (;;) {
      const { refcountTableEntries } = image;
      const wanted =
        l2Tables + countTables(image.refcountTable.view, refcountTableEntries) - singles.length;
      if (wanted > 0) {
        const run = await take(wanted, 1);
        for (let each = 0; each < run.count; each++) singles.push(run.first + each);
      } else if (refcountTable.count * clusterSize < refcountTableEntries * 8) {
        // A shorter one that was taken before will do for single ones.
        for (let each = 0; each < refcountTable.count; each++) {
          singles.push(refcountTable.first + each);
        }
        refcountTable = await row(refcountTableEntries * 8);
      } else {
        return { l1, snapshots, refcountTable, singles, all };
      }
    }
  } catch (error) {
    await release(image, all);
    throw error;
  }
}

/** A table that claims more tables than the file has room for would have us write them all. */
function checkTablesExist(image: Qcow2Image, l2Tables: number): void {
  const { refcountTable, refcountTableEntries, geometry, file } = image;
  const tables = l2Tables + countTables(refcountTable.view, refcountTableEntries);
  if (tables * geometry.clusterSize <= file.node.length + geometry.clusterSize) return;
  image.log.error(`qcow2: ${tables} tables cannot all be in the file`);
  throw new IoError(errno.EINVAL, { syscall: 'refcount' });
}

/** Best effort: what cannot be given back is lost, and harms nobody. */
async function release(image: Qcow2Image, runs: readonly ClusterRun[]): Promise<void> {
  try {
    for (const run of runs) await freeClusters(image, run);
  } catch (error) {
    image.log.debug(`Clusters are lost: ${String(error)}`);
  }
}

/** Entries of an L1 or refcount table that lead anywhere. */
function countTables(view: DataView, entries: number): number {
  let count = 0;
  for (let index = 0; index < entries; index++) {
    if (tableOffset(view, index * 8) !== 0) count++;
  }
  return count;
}

class NextTables {
  readonly #image: Qcow2Image;
  readonly #reserve: Reserve;
  readonly #snapshotTable: Buffer;
  readonly #oldRefcountTable: IoBuffer;
  /** Copies of tables, which stay good while others are asked for. */
  readonly #scratch: IoBuffer;
  readonly #fresh: IoBuffer;
  readonly #l1: IoBuffer;
  readonly #blocks: { readonly index: number; readonly old: number; readonly next: number }[] = [];
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
    this.#fresh = image.allocate(image.geometry.clusterSize);
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
    await release(image, this.#reserve.all);
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
    await this.#writePlaces(offsets, snapshots.length);
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
    await this.#discardFreed();
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
      if (seen.has(offset)) throw this.#nonsense(offset / clusterSize);
      seen.add(offset);
      // It exists, before anything in it is looked at.
      await this.#adjust({ first: offset / clusterSize, count: 1 }, addend);
      await this.#countClusters(offset, addend);
      if (addend < 0 && (await this.#refcount(offset / clusterSize)) === 0)
        this.#goneL2.push(offset);
    }
  }

  async #countClusters(table: number, addend: 1 | -1): Promise<void> {
    const { clusterSize } = this.#image.geometry;
    let run = { first: 0, count: 0 };
    const count = async (first: number, last: number): Promise<void> => {
      if (run.first + run.count !== first) {
        await this.#adjust(run, addend);
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
    await this.#adjust(run, addend);
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
        await this.#adjust({ first: old / clusterSize, count: 1 }, -1);
        if ((await this.#refcount(old / clusterSize)) === 0) this.#goneL2.push(old);
      }
      const users = await this.#refcount(offset / clusterSize);
      if (users === 0) throw this.#nonsense(offset / clusterSize);
      putTableOffset(view, index * 8, offset);
      putCopied(view, index * 8, users === 1);
    }
  }

  async #mustChange(table: number): Promise<boolean> {
    const { clusterSize } = this.#image.geometry;
    let found = false;
    await this.#eachEntry(table, async (entry) => {
      if (found || entry.compressed || !entry.allocated) return;
      const users = await this.#refcount(entry.hostOffset / clusterSize);
      if (users === 0) throw this.#nonsense(entry.hostOffset / clusterSize);
      if ((users === 1) !== entry.copied) found = true;
    });
    return found;
  }

  async #copyTable(old: number, offset: number): Promise<void> {
    const { geometry, l2Cache } = this.#image;
    const { clusterSize, sliceSize, l2EntrySize } = geometry;
    const { view, bytes } = this.#scratch;
    const entry = emptyEntry();
    this.#newL2.push(offset);
    for (let slice = 0; slice < clusterSize; slice += sliceSize) {
      (await l2Cache.get(old + slice)).buffer.bytes.copy(bytes);
      for (let at = 0; at < sliceSize; at += l2EntrySize) {
        decodeL2(view, at, geometry, entry);
        if (entry.compressed || !entry.allocated) continue;
        const later = this.#refcount(entry.hostOffset / clusterSize);
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
      this.#adjust({ first: offset / clusterSize, count: Math.ceil(bytes / clusterSize) }, -1);
    for (const { old } of this.#blocks) await release(old, clusterSize);
    await release(image.refcountTableOffset, image.refcountTableEntries * 8);
    await release(image.snapshotsOffset, image.snapshotsLength);
    for (const { offset, entries } of frees) await release(offset, entries * 8);
    for (const first of this.#reserve.singles.slice(this.#singlesUsed)) {
      await this.#adjust({ first, count: 1 }, -1);
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

  async #writePlaces(
    offsets: { readonly l1: number; readonly refcountTable: number; readonly snapshots: number },
    snapshotCount: number,
  ): Promise<void> {
    const image = this.#image;
    const { file } = image;
    const old = image.allocate(PLACES_LENGTH);
    const places = image.allocate(PLACES_LENGTH);
    const { view } = places;
    view.setUint32(0, image.l1Entries);
    putU64(view, 4, offsets.l1);
    putU64(view, 12, offsets.refcountTable);
    view.setUint32(20, this.#reserve.refcountTable.count);
    view.setUint32(24, snapshotCount);
    putU64(view, 28, offsets.snapshots);
    try {
      await file.read(AT_L1_SIZE, PLACES_LENGTH, old, 0);
    } catch (error) {
      await this.giveUp();
      throw error;
    }
    try {
      await file.write(AT_L1_SIZE, PLACES_LENGTH, places, 0);
      await file.flush();
    } catch (error) {
      await this.#writeOldPlaces(old);
      throw error;
    }
  }

  /** Nobody knows what came of writing the new ones. */
  async #writeOldPlaces(places: IoBuffer): Promise<void> {
    const image = this.#image;
    try {
      await image.file.write(AT_L1_SIZE, PLACES_LENGTH, places, 0);
      await image.file.flush();
      await this.giveUp();
    } catch (error) {
      image.log.error(`qcow2: the header could not be written, nor be restored: ${String(error)}`);
      image.unusable = true;
    }
  }

  /** Clusters that have no user any more. Advice only. */
  async #discardFreed(): Promise<void> {
    const image = this.#image;
    const { file, refcountCache } = image;
    const { clusterSize, refcountsPerBlock, refcountOrder } = image.geometry;
    if (!file.node.unmap || !image.settings.discards.snapshot) return;
    try {
      for (const { index, old, next } of this.#blocks) {
        await file.read(old, clusterSize, this.#scratch, 0);
        (await refcountCache.get(next)).buffer.bytes.copy(this.#fresh.bytes);
        const isFreed = (at: number): boolean =>
          getRefcount(this.#fresh.view, at, refcountOrder) === 0 &&
          getRefcount(this.#scratch.view, at, refcountOrder) !== 0;
        for (let at = 0; at < refcountsPerBlock; at++) {
          const first = at;
          while (at < refcountsPerBlock && isFreed(at)) at++;
          if (at === first) continue;
          const offset = (index * refcountsPerBlock + first) * clusterSize;
          await file.discard(offset, (at - first) * clusterSize);
        }
        await this.#letOthersIn();
      }
    } catch (error) {
      image.log.debug(`Freed clusters are not discarded: ${String(error)}`);
    }
  }

  async #adjust({ first, count }: ClusterRun, addend: 1 | -1): Promise<void> {
    const image = this.#image;
    const { refcountsPerBlock, refcountOrder, refcountBits } = image.geometry;
    const most = 2 ** refcountBits - 1;
    const end = first + count;
    for (let cluster = first; cluster < end; ) {
      const place = blockOffset(image, cluster);
      if (place === 0) throw this.#nonsense(cluster);
      const block = await loadBlock(image, place);
      const blockEnd = (Math.floor(cluster / refcountsPerBlock) + 1) * refcountsPerBlock;
      for (; cluster < Math.min(end, blockEnd); cluster++) {
        const at = cluster % refcountsPerBlock;
        const users = getRefcount(block.view, at, refcountOrder);
        if (users === 0) throw this.#nonsense(cluster);
        if (users + addend > most) throw new IoError(errno.EINVAL, { syscall: 'refcount' });
        setRefcount(block.view, at, refcountOrder, users + addend);
      }
      image.refcountCache.markDirty(block);
    }
  }

  #refcount(cluster: number): MaybePromise<number> {
    const image = this.#image;
    const { refcountsPerBlock, refcountOrder } = image.geometry;
    const place = blockOffset(image, cluster);
    if (place === 0) return 0;
    const at = cluster % refcountsPerBlock;
    const block = loadBlock(image, place);
    return block instanceof Promise
      ? block.then(({ view }) => getRefcount(view, at, refcountOrder))
      : getRefcount(block.view, at, refcountOrder);
  }

  /** The offset of a cluster for a refcount block or an L2 table. */
  #takeSingle(): number {
    const cluster = this.#reserve.singles[this.#singlesUsed++];
    if (cluster === undefined) throw new Error('Not enough clusters were taken');
    return cluster * this.#image.geometry.clusterSize;
  }

  #nonsense(cluster: number): IoError {
    this.#image.log.error(`qcow2: cluster ${cluster} is used, but is not counted so`);
    return new IoError(errno.EINVAL, { syscall: 'refcount' });
  }

  /** Tables that are cached are gone through without waiting for anything. */
  async #letOthersIn(): Promise<void> {
    if (++this.#tablesSeen % TABLES_AT_ONCE === 0) await new Promise(setImmediate);
  }
}
