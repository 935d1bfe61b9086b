// New refcount blocks, and a larger refcount table. A new block lies in the area that it counts, so that it counts itself; it
// is on disk before the table points at it. The lock is held.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { BlkdebugEvent } from '../../../qapi/generated/types.ts';
import { AT_REFCOUNT_TABLE, MAX_REFCOUNT_TABLE } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { putU64, tableOffset } from './l1-l2.ts';
import { checkOverlap, metadataOf } from './overlap.ts';
import { freeClusters } from './refcount.ts';
import { type ClusterRun, setRefcount } from './refcount-block.ts';

/**
 * Makes the block with that index in the table, which has none. In an image that is damaged the first cluster of its area may be
 * in use: the corruption is then told of `behind`, the cluster where the reference would put the block.
 */
export async function createBlock(image: Qcow2Image, index: number, behind: number): Promise<void> {
  image.file.debugEvent('refblock_alloc');
  if (index >= image.refcountTableEntries) {
    await growTable(image, index);
    return;
  }
  const { refcountsPerBlock, clusterSize } = image.geometry;
  if (metadataOf(image).find(index * refcountsPerBlock * clusterSize, clusterSize) !== undefined) {
    checkOverlap(image, behind * clusterSize, clusterSize, 'refcount block');
  }
  await placeBlocks(image, { index, blocks: 1, clusters: 0 });
}

/** Makes the table long enough for `entries` blocks. */
export async function lengthenTable(image: Qcow2Image, entries: number): Promise<void> {
  const { refcountTableEntries: before } = image;
  if (entries > before) await growTable(image, before, entries - before);
}

/** Takes clusters behind everything that is counted so far: for tables that are too long to fit anywhere else. */
export async function appendClusters(image: Qcow2Image, clusters: number): Promise<ClusterRun> {
  const { refcountsPerBlock } = image.geometry;
  const blocks = blocksFor(clusters, refcountsPerBlock);
  let index = image.refcountTableEntries;
  while (index > 0 && tableOffset(image.refcountTable.view, (index - 1) * 8) === 0) index--;
  if (index + blocks > image.refcountTableEntries) {
    await growTable(image, image.refcountTableEntries, blocks);
    return appendClusters(image, clusters);
  }
  await placeBlocks(image, { index, blocks, clusters });
  return { first: index * refcountsPerBlock + blocks, count: clusters };
}

/** How many blocks count `clusters` and themselves. */
function blocksFor(clusters: number, refcountsPerBlock: number): number {
  let blocks = 1;
  while (blocks * refcountsPerBlock < clusters + blocks) {
    blocks = Math.ceil((clusters + blocks) / refcountsPerBlock);
  }
  return blocks;
}

/**
 * Puts `blocks` new blocks at the start of the area of the first one, and counts `clusters` behind them as used; then the
 * table, which is long enough, points at them.
 */
async function placeBlocks(
  image: Qcow2Image,
  area: { index: number; blocks: number; clusters: number },
): Promise<void> {
  const { clusterSize } = image.geometry;
  await writeBlocks(image, area, 'refblock_alloc_write', async (first) => {
    const length = area.blocks * 8;
    const entries = image.allocate(length);
    for (let each = 0; each < area.blocks; each++) {
      putU64(entries.view, each * 8, (first + each) * clusterSize);
    }
    image.file.debugEvent('refblock_alloc_hookup');
    await image.file.write(image.refcountTableOffset + area.index * 8, length, entries, 0);
    entries.bytes.copy(image.refcountTable.bytes, area.index * 8, 0, length);
  });
}

/**
 * Writes new blocks, then has `attach` point something at them; answers the cluster of the first. Where that fails nobody
 * knows of them, so that they can be made again.
 */
async function writeBlocks(
  image: Qcow2Image,
  area: { index: number; blocks: number; clusters: number },
  event: BlkdebugEvent,
  attach: (first: number) => Promise<void>,
): Promise<void> {
  const { refcountsPerBlock, clusterSize } = image.geometry;
  const { blocks, clusters } = area;
  const first = area.index * refcountsPerBlock;
  checkOverlap(image, first * clusterSize, (blocks + clusters) * clusterSize);
  try {
    await fillBlocks(image, first, area);
    image.file.debugEvent(event);
    await image.refcountCache.flush();
    await attach(first);
  } catch (error) {
    image.refcountCache.forget(first * clusterSize, blocks * clusterSize);
    for (let each = 0; each < blocks; each++) {
      metadataOf(image).remove((first + each) * clusterSize, 'refcount block');
    }
    throw error;
  }
}

async function fillBlocks(
  image: Qcow2Image,
  first: number,
  { blocks, clusters }: { readonly blocks: number; readonly clusters: number },
): Promise<void> {
  const { refcountsPerBlock, refcountOrder, clusterSize } = image.geometry;
  for (let each = 0; each < blocks; each++) {
    const offset = (first + each) * clusterSize;
    const block = await image.refcountCache.create(offset);
    const used = Math.min(refcountsPerBlock, blocks + clusters - each * refcountsPerBlock);
    for (let one = 0; one < used; one++) setRefcount(block.view, one, refcountOrder, 1);
    metadataOf(image).add(offset, 'refcount block');
  }
}

/** Moves the table to a larger place, in the area of the block `index` that the old one has no entry for. */
async function growTable(image: Qcow2Image, index: number, more = 1): Promise<void> {
  image.file.debugEvent('reftable_grow');
  const { refcountsPerBlock, clusterSize } = image.geometry;
  const perCluster = clusterSize / 8;
  let tableClusters = 0;
  let blocks = 1;
  for (;;) {
    const entries = Math.max(index + blocks + more, Math.ceil(image.refcountTableEntries * 1.5));
    const needed = Math.ceil(entries / perCluster);
    if (needed <= tableClusters) break;
    tableClusters = needed;
    blocks = blocksFor(tableClusters, refcountsPerBlock);
  }
  const length = tableClusters * clusterSize;
  if (length > MAX_REFCOUNT_TABLE) throw new IoError(errno.EFBIG, { syscall: 'refcount table' });
  const area = { index, blocks, clusters: tableClusters };
  const old = {
    first: image.refcountTableOffset / clusterSize,
    count: Math.ceil((image.refcountTableEntries * 8) / clusterSize),
  };
  await writeBlocks(image, area, 'refblock_alloc_write_blocks', (first) =>
    switchTable(image, length, { index, blocks, first }),
  );
  metadataOf(image).tablesMoved(image);
  await freeClusters(image, old, 'other');
}

/**
 * Writes the table behind the new blocks, with them in it, and goes over to it. Whatever needs the new one on disk, or the old one's
 * clusters, is flushed for itself.
 */
async function switchTable(
  image: Qcow2Image,
  length: number,
  { index, blocks, first }: { index: number; blocks: number; first: number },
): Promise<void> {
  const { clusterSize } = image.geometry;
  const table = image.allocate(length);
  image.refcountTable.bytes.copy(table.bytes, 0, 0, image.refcountTableEntries * 8);
  for (let each = 0; each < blocks; each++) {
    putU64(table.view, (index + each) * 8, (first + each) * clusterSize);
  }
  const offset = (first + blocks) * clusterSize;
  image.file.debugEvent('refblock_alloc_write_table');
  await image.file.write(offset, length, table, 0);
  await image.file.flush();
  const place = image.allocate(12);
  putU64(place.view, 0, offset);
  place.view.setUint32(8, length / clusterSize);
  image.file.debugEvent('refblock_alloc_switch_table');
  await image.file.write(AT_REFCOUNT_TABLE, 12, place, 0);
  image.refcountTable = table;
  image.refcountTableEntries = length / 8;
  image.refcountTableOffset = offset;
}
