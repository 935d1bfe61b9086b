// COPIED flags: set in active tables exactly where a cluster has one user. Where they are wrong after a crash they are put right,
// refcounts being right already.

import type { Findings } from './findings.ts';
import type { Qcow2Image } from './image.ts';
import { decodeL2, emptyEntry, isCopied, putCopied, tableOffset } from './l1-l2.ts';
import { getRefcount, loadBlock } from './refcount-block.ts';
import { blockPlace, TURN } from './references.ts';
import { Turns } from './turns.ts';

/** Puts the flags right, on disk. Throws IoError. */
export async function repairCopied(image: Qcow2Image, findings: Findings): Promise<void> {
  const { l1, l1Entries, l1Offset, file, geometry } = image;
  const { clusterSize } = geometry;
  const field = image.allocate(8);
  const turns = new Turns(TURN);
  for (let index = 0; index < l1Entries; index++) {
    const table = tableOffset(l1.view, index * 8);
    if (table === 0 || table % clusterSize !== 0 || table >= file.node.length) continue;
    const refcount = await refcountOf(image, table / clusterSize);
    if ((refcount === 1) !== isCopied(l1.view, index * 8)) {
      findings.say(
        `Repairing OFLAG_COPIED L2 cluster: l1_index=${index} ` +
          `l1_entry=${entryText(l1.view, index * 8)} refcount=${refcount}`,
      );
      putCopied(l1.view, index * 8, refcount === 1);
      l1.bytes.copy(field.bytes, 0, index * 8, index * 8 + 8);
      await file.write(l1Offset + index * 8, 8, field, 0);
    }
    await repairTable(image, table, findings);
    await turns.after(clusterSize);
  }
  image.l2Cache.empty();
}

async function repairTable(image: Qcow2Image, table: number, findings: Findings): Promise<void> {
  const { geometry, file } = image;
  const { clusterSize, l2EntrySize, hasDataFile } = geometry;
  const buffer = image.node.pool.take(clusterSize);
  await file.read(table, clusterSize, buffer, 0);
  const { view } = buffer;
  const entry = emptyEntry();
  let changed = false;
  for (let at = 0; at < clusterSize; at += l2EntrySize) {
    decodeL2(view, at, geometry, entry);
    if (entry.compressed || !entry.allocated) continue;
    const later = hasDataFile ? 1 : refcountOf(image, Math.floor(entry.hostOffset / clusterSize));
    const refcount = typeof later === 'number' ? later : await later;
    if ((refcount === 1) === entry.copied) continue;
    findings.say(
      `Repairing OFLAG_COPIED data cluster: l2_entry=${entryText(view, at)} refcount=${refcount}`,
    );
    putCopied(view, at, refcount === 1);
    changed = true;
  }
  if (changed) await file.write(table, clusterSize, buffer, 0);
  image.node.pool.give(buffer);
}

/** 0 where nothing is counted. */
async function loadedRefcount(image: Qcow2Image, cluster: number, place: number): Promise<number> {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  const block = await loadBlock(image, place);
  return getRefcount(block.view, cluster % refcountsPerBlock, refcountOrder);
}

function refcountOf(image: Qcow2Image, cluster: number): number | Promise<number> {
  const { refcountsPerBlock, refcountOrder } = image.geometry;
  const index = Math.floor(cluster / refcountsPerBlock);
  if (index >= image.refcountTableEntries) return 0;
  const place = blockPlace(image, index);
  if (typeof place !== 'number' || place === 0) return 0;
  const block = image.refcountCache.peek(place);
  if (block === undefined) return loadedRefcount(image, cluster, place);
  return getRefcount(block.view, cluster % refcountsPerBlock, refcountOrder);
}

function entryText(view: DataView, at: number): string {
  return view.getBigUint64(at).toString(16);
}
