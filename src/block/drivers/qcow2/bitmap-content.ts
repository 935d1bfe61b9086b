// The bits of a bitmap in the image: a table of clusters, each of them a piece of the bits, least significant first. Clusters of
// bits that are all alike are not stored.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { DirtyBitmap } from '../../dirty-bitmap.ts';
import {
  decodeTableEntry,
  encodeTableEntry,
  isTable,
  MAX_BITMAP_BYTES,
  type StoredBitmap,
  TABLE_ENTRY,
  type TableEntry,
} from './bitmap-directory.ts';
import { readAnywhere } from './bitmap-list.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { freeClaimed } from './refcount.ts';
import { Turns } from './turns.ts';

/** Below this, clusters of ones take memory, too: they are parts of what a bitmap in memory has for a run of bits. */
const SMALL_CLUSTER = 1024;

/** Bytes of bits that are loaded or stored before others get their turn. */
const TURN = 16 * 1024 * 1024;

const SMALLEST_READ = 512;

/** How much is read for all bitmaps of an image, bytes: an image may claim more than there is memory. */
export class LoadBudget {
  #left = MAX_BITMAP_BYTES;
  readonly #turns = new Turns(TURN);

  /** Throws or rejects IoError. A read takes time, however short it is. */
  take(bytes: number): MaybePromise<void> {
    this.#left -= Math.max(bytes, SMALLEST_READ);
    if (this.#left < 0) throw new IoError(errno.ENOMEM, { syscall: 'bitmap' });
    return this.#turns.after(bytes);
  }
}

/** A place in the file of a table or a part of one. */
export interface TablePlace {
  readonly tableOffset: bigint;
  readonly tableSize: number;
}

/** Fills a bitmap, which is clean. Throws QmpError with the reference's text. */
export async function loadContent(
  image: Qcow2Image,
  stored: StoredBitmap,
  bitmap: DirtyBitmap,
  budget: LoadBudget,
): Promise<void> {
  const { name } = stored;
  const table = await explained(async () => {
    await budget.take(stored.tableSize * TABLE_ENTRY);
    return loadTable(image, stored);
  }, `Could not read bitmap_table table from image for bitmap '${name}'`);
  await explained(
    () => loadBits(image, table, stored.tableSize, bitmap, budget),
    `Could not read bitmap '${name}' from image`,
  );
  image.node.pool.give(table);
}

/** Reads and checks a table, into memory of the pool. Throws IoError: EINVAL where it has an impossible entry. */
async function loadTable(
  image: Qcow2Image,
  { tableOffset, tableSize }: TablePlace,
): Promise<IoBuffer> {
  const length = tableSize * TABLE_ENTRY;
  const table = image.node.pool.take(length);
  await readAnywhere(image.file, Number(tableOffset), length, table);
  if (!isTable(table.view, tableSize, image.geometry.clusterSize)) {
    throw new IoError(errno.EINVAL, { syscall: 'bitmap table' });
  }
  return table;
}

async function loadBits(
  image: Qcow2Image,
  table: IoBuffer,
  entries: number,
  bitmap: DirtyBitmap,
  budget: LoadBudget,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const { pool } = image.node;
  if (entries !== tableSizeFor(bitmap, clusterSize)) {
    throw new IoError(errno.EINVAL, { syscall: 'bitmap' });
  }
  const perCluster = clusterSize * 8;
  let cluster: IoBuffer | undefined;
  for (let index = 0; index < entries; index++) {
    const first = index * perCluster;
    const entry = decodeTableEntry(table.view, index * TABLE_ENTRY, clusterSize);
    if (entry === undefined || entry === 'zeroes') continue;
    // The last cluster is often far from full.
    const length = Math.min(clusterSize, Math.ceil((bitmap.granules - first) / 64) * 8);
    if (entry !== 'ones' || clusterSize < SMALL_CLUSTER) await budget.take(length);
    if (entry === 'ones') {
      bitmap.setGranules(first, Math.min(first + perCluster, bitmap.granules) - 1);
      continue;
    }
    cluster ??= pool.take(clusterSize);
    await readAnywhere(image.file, entry, length, cluster);
    bitmap.copyFrom(first, cluster.bytes.subarray(0, length));
  }
  if (cluster !== undefined) pool.give(cluster);
}

/** Entries of a bitmap's table. */
function tableSizeFor(bitmap: DirtyBitmap, clusterSize: number): number {
  return Math.ceil(Math.ceil(bitmap.granules / 64) / (clusterSize / 8));
}

/**
 * Writes a bitmap to new clusters, which it adds to `taken`, and does not wait for the disk. The lock is held. Throws QmpError;
 * the clusters are given back by the caller then.
 */
export async function storeContent(
  image: Qcow2Image,
  bitmap: DirtyBitmap,
  taken: Set<number>,
): Promise<TablePlace> {
  const { clusterSize } = image.geometry;
  const { name } = bitmap;
  const entries = tableSizeFor(bitmap, clusterSize);
  if (entries * clusterSize > MAX_BITMAP_BYTES) throw new QmpError(`Bitmap '${name}' is too big`);
  // As the reference has it for a disk of no length.
  if (entries === 0) throw new QmpError('No memory');
  const { pool } = image.node;
  const table = pool.take(entries * TABLE_ENTRY);
  table.bytes.fill(0, 0, entries * TABLE_ENTRY);
  await writeBits(image, bitmap, table, taken);
  const count = Math.ceil((entries * TABLE_ENTRY) / clusterSize);
  const offset = await take(image, count, name, taken);
  await explained(
    () => image.file.write(offset, entries * TABLE_ENTRY, table, 0),
    `Failed to write bitmap '${name}' to file`,
  );
  pool.give(table);
  return { tableOffset: BigInt(offset), tableSize: entries };
}

async function writeBits(
  image: Qcow2Image,
  bitmap: DirtyBitmap,
  table: IoBuffer,
  taken: Set<number>,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const perCluster = clusterSize * 8;
  const { granules, name } = bitmap;
  const { pool } = image.node;
  const turns = new Turns(TURN);
  let cluster: IoBuffer | undefined;
  for (let from = 0; ; ) {
    const dirty = bitmap.nextDirtyGranule(from, granules);
    if (dirty < 0) break;
    const index = Math.floor(dirty / perCluster);
    const first = index * perCluster;
    const end = Math.min(first + perCluster, granules);
    let entry: TableEntry = 'ones';
    // The reference takes ones for more granules than there are.
    if (end - first < perCluster || bitmap.nextCleanGranule(first, end) >= 0) {
      entry = await take(image, 1, name, taken);
      const bits = (cluster ??= pool.take(clusterSize));
      bitmap.copyTo(first, bits.bytes.subarray(0, clusterSize));
      const offset = entry;
      await explained(
        () => image.file.write(offset, clusterSize, bits, 0),
        `Failed to write bitmap '${name}' to file`,
      );
      await turns.after(clusterSize);
    }
    encodeTableEntry(table.view, index * TABLE_ENTRY, entry);
    from = end;
  }
  if (cluster !== undefined) pool.give(cluster);
}

/** Takes clusters in a row; answers where they are. */
async function take(
  image: Qcow2Image,
  count: number,
  name: string,
  taken: Set<number>,
): Promise<number> {
  const { first } = await explained(
    () => allocateClusters(image, count, count),
    `Failed to allocate clusters for bitmap '${name}'`,
  );
  for (let each = 0; each < count; each++) taken.add(first + each);
  return first * image.geometry.clusterSize;
}

/**
 * Gives up the clusters of a bitmap that nothing in the image points at any more, but for those in `kept`. What fails leaves
 * clusters that nobody uses. The lock is held.
 */
export async function freeContent(
  image: Qcow2Image,
  place: TablePlace,
  kept: ReadonlySet<number>,
): Promise<void> {
  const { clusterSize } = image.geometry;
  try {
    const table = await loadTable(image, place);
    for (let index = 0; index < place.tableSize; index++) {
      const entry = decodeTableEntry(table.view, index * TABLE_ENTRY, clusterSize);
      if (typeof entry !== 'number' || kept.has(entry / clusterSize)) continue;
      await freeClaimed(image, entry / clusterSize, 'always');
    }
    const first = Number(place.tableOffset) / clusterSize;
    const count = Math.ceil((place.tableSize * TABLE_ENTRY) / clusterSize);
    for (let each = first; each < first + count; each++) {
      if (!kept.has(each)) await freeClaimed(image, each, 'other');
    }
    image.node.pool.give(table);
  } catch (error) {
    image.log.debug(`Clusters of a bitmap are lost: ${String(error)}`);
  }
}

/** Does `work`; an IoError becomes a QmpError that says what it was about. */
export async function explained<T>(work: () => T | Promise<T>, what: string): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${what}: ${error.reason}`, { cause: error });
  }
}
