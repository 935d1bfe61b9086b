// The places of L1, refcount and snapshot table, which stand in a row in the header: one write changes them all.

import type { IoBuffer } from '../../../base/io-buffer.ts';
import { AT_L1_SIZE } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { putU64 } from './l1-l2.ts';

/** From l1_size to snapshots_offset. */
const PLACES_LENGTH = 36;

/** Offsets in bytes. */
export interface TablePlaces {
  readonly l1: number;
  readonly l1Entries: number;
  readonly refcountTable: number;
  readonly refcountTableClusters: number;
  readonly snapshots: number;
  readonly snapshotCount: number;
}

/** Throws IoError: the image uses the old ones then, or, where nobody can tell, is unusable. */
export async function writePlaces(image: Qcow2Image, places: TablePlaces): Promise<void> {
  const { file } = image;
  const old = image.allocate(PLACES_LENGTH);
  await file.read(AT_L1_SIZE, PLACES_LENGTH, old, 0);
  try {
    await file.write(AT_L1_SIZE, PLACES_LENGTH, encoded(image, places), 0);
    await file.flush();
  } catch (error) {
    await restore(image, old);
    throw error;
  }
}

function encoded(image: Qcow2Image, places: TablePlaces): IoBuffer {
  const buffer = image.allocate(PLACES_LENGTH);
  const { view } = buffer;
  view.setUint32(0, places.l1Entries);
  putU64(view, 4, places.l1);
  putU64(view, 12, places.refcountTable);
  view.setUint32(20, places.refcountTableClusters);
  view.setUint32(24, places.snapshotCount);
  putU64(view, 28, places.snapshots);
  return buffer;
}

/** Nobody knows what came of writing the new ones. */
async function restore(image: Qcow2Image, old: IoBuffer): Promise<void> {
  try {
    await image.file.write(AT_L1_SIZE, PLACES_LENGTH, old, 0);
    await image.file.flush();
  } catch (error) {
    image.log.error(`qcow2: the header could not be written, nor be restored: ${String(error)}`);
    image.unusable = true;
  }
}
