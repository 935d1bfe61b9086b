// A refcount table and blocks, all new, from counted uses. They lie where neither the old ones nor anything else does, and the
// header leads to them last.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { AT_REFCOUNT_TABLE, MAX_REFCOUNT_TABLE } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { putU64 } from './l1-l2.ts';
import { setRefcount } from './refcount-block.ts';
import type { References, Window } from './references.ts';

/** Where the new structures will be; cluster indexes. */
interface Plan {
  /** Index of a block, to its place. */
  readonly blocks: ReadonlyMap<number, number>;
  readonly table: number;
  readonly tableClusters: number;
}

/** Throws IoError. The cache of refcount blocks is empty afterwards. */
export async function rebuildRefcounts(
  image: Qcow2Image,
  references: References,
  room: Room,
): Promise<void> {
  const plan = makePlan(image, room);
  await writeBlocks(image, references, plan);
  await writeTable(image, plan);
}

/** What there is to count, and where there is room: old refcounts are in use until the new ones are. */
export class Room {
  /** Indexes of blocks that have something to count. */
  readonly needed = new Set<number>();
  /** Free clusters, rising, between clusters that are in use: as many as could be needed. */
  readonly free: number[] = [];
  /** Behind the last cluster in use. */
  end = 1;
  readonly #most: number;
  readonly #refcountsPerBlock: number;

  constructor(image: Qcow2Image, clusters: number) {
    this.#refcountsPerBlock = image.geometry.refcountsPerBlock;
    this.#most = Math.min(
      MAX_REFCOUNT_TABLE / 8,
      Math.ceil(clusters / this.#refcountsPerBlock) + 1,
    );
  }

  /** Windows come in order. */
  add({ first, counts }: Window): void {
    const { free, needed } = this;
    for (let at = 0; at < counts.length; at++) {
      if (counts[at] === 0) continue;
      const cluster = first + at;
      for (let one = this.end; one < cluster && free.length < this.#most; one++) free.push(one);
      this.end = cluster + 1;
      needed.add(Math.floor(cluster / this.#refcountsPerBlock));
    }
  }
}

function makePlan(image: Qcow2Image, { needed, free, end }: Room): Plan {
  const { refcountsPerBlock, clusterSize } = image.geometry;
  const blocks = new Map<number, number>();
  const todo: number[] = [];
  let entries = 0;
  let next = end;
  let used = 0;
  const need = (index: number): void => {
    entries = Math.max(entries, index + 1);
    todo.push(index);
  };
  const needCluster = (cluster: number): void => {
    const index = Math.floor(cluster / refcountsPerBlock);
    if (needed.has(index)) return;
    needed.add(index);
    need(index);
  };
  for (const index of needed) need(index);
  let table = 0;
  let tableClusters = 0;
  // Blocks need blocks, and a longer table: both grow until nothing is missing.
  for (;;) {
    for (let index = todo.pop(); index !== undefined; index = todo.pop()) {
      const cluster = free[used++] ?? next++;
      blocks.set(index, cluster);
      needCluster(cluster);
    }
    if (entries * 8 > MAX_REFCOUNT_TABLE) {
      throw new IoError(errno.EFBIG, { syscall: 'refcount table' });
    }
    const clusters = Math.ceil((entries * 8) / clusterSize);
    if (clusters <= tableClusters) return { blocks, table, tableClusters };
    tableClusters = clusters;
    table = next;
    next += clusters;
    for (let cluster = table; cluster < next; cluster++) needCluster(cluster);
  }
}

/** Every block, from what the image uses without its old refcounts, and from the new ones. */
async function writeBlocks(
  image: Qcow2Image,
  references: References,
  { blocks, table, tableClusters }: Plan,
): Promise<void> {
  const { refcountsPerBlock, refcountOrder, refcountBits, clusterSize } = image.geometry;
  const most = 2 ** refcountBits - 1;
  const own = Float64Array.from([
    ...blocks.values(),
    ...Array.from({ length: tableClusters }, (_, each) => table + each),
  ]).sort();
  const byIndex = [...blocks].sort(([a], [b]) => a - b);
  const block = image.allocate(clusterSize);
  let window = await references.count(0, { refcounts: false });
  let ownAt = 0;
  for (const [index, place] of byIndex) {
    const first = index * refcountsPerBlock;
    const windowStart = first - (first % references.windowLength);
    if (window.first !== windowStart) {
      window = await references.count(windowStart, { refcounts: false });
    }
    block.bytes.fill(0);
    for (let at = 0; at < refcountsPerBlock; at++) {
      const uses = window.counts[first + at - window.first] ?? 0;
      if (uses > 0) setRefcount(block.view, at, refcountOrder, Math.min(uses, most));
    }
    for (; (own[ownAt] ?? Infinity) < first + refcountsPerBlock; ownAt++) {
      setRefcount(block.view, (own[ownAt] ?? 0) - first, refcountOrder, 1);
    }
    await image.file.write(place * clusterSize, clusterSize, block, 0);
  }
}

async function writeTable(
  image: Qcow2Image,
  { blocks, table, tableClusters }: Plan,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const entries = image.allocate(tableClusters * clusterSize);
  for (const [index, place] of blocks) putU64(entries.view, index * 8, place * clusterSize);
  const offset = table * clusterSize;
  await image.file.write(offset, tableClusters * clusterSize, entries, 0);
  await image.file.flush();
  const place = image.allocate(12);
  putU64(place.view, 0, offset);
  place.view.setUint32(8, tableClusters);
  await image.file.write(AT_REFCOUNT_TABLE, 12, place, 0);
  await image.file.flush();
  image.refcountTable = entries;
  image.refcountTableOffset = offset;
  image.refcountTableEntries = (tableClusters * clusterSize) / 8;
  image.refcountCache.empty();
  image.freeIndex = 0;
  image.metadata = undefined;
}
