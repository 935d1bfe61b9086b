// Where the L2 tables of snapshots are: read only where writes are checked against them, since they are only on disk.

import { MAX_L1 } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { tableOffset } from './l1-l2.ts';

/** Reads the L1 tables of all snapshots again, if that is asked for. Throws IoError. */
export async function loadInactiveTables(image: Qcow2Image): Promise<void> {
  const { file, snapshots, settings } = image;
  image.metadata = undefined;
  image.inactiveTables = [];
  if (!settings.guarded.has('inactive L2 table') || snapshots.length === 0) return;
  const tables = new Set<number>();
  for (const { l1Offset, l1Entries } of snapshots) {
    const length = l1Entries * 8;
    // What cannot be a table leads nowhere.
    if (length === 0 || length > MAX_L1 || l1Offset + length > file.node.length) continue;
    const l1 = image.allocate(length);
    await file.read(l1Offset, length, l1, 0);
    for (let at = 0; at < length; at += 8) {
      const table = tableOffset(l1.view, at);
      if (table !== 0 && table < file.node.length) tables.add(table);
    }
  }
  image.inactiveTables = [...tables];
}
