// Clusters for the new tables that a change of internal snapshots needs, taken before anything is written.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { tableOffset } from './l1-l2.ts';
import { freeClusters } from './refcount.ts';
import type { ClusterRun } from './refcount-block.ts';

/** Clusters that are taken for the new tables. */
export interface Reserve {
  readonly l1: ClusterRun;
  readonly snapshots: ClusterRun;
  readonly refcountTable: ClusterRun;
  /** One each for refcount blocks and L2 tables. */
  readonly singles: number[];
  readonly all: readonly ClusterRun[];
}

const nothing: ClusterRun = { first: 0, count: 0 };

/** Takes them; `snapshotsLength` is of the snapshot table, bytes. Throws IoError. */
export async function reserveClusters(
  image: Qcow2Image,
  snapshotsLength: number,
): Promise<Reserve> {
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
    await releaseClusters(image, all);
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
export async function releaseClusters(
  image: Qcow2Image,
  runs: readonly ClusterRun[],
): Promise<void> {
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
