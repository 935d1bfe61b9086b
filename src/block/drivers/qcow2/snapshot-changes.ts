// What is done with the internal snapshots of an image: told, taken and deleted.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { InternalSnapshot, NewSnapshot, SnapshotSelector } from '../../internal-snapshot.ts';
import { checkUsable } from './corruption.ts';
import { checkTable, MAX_L1 } from './header.ts';
import type { Qcow2Image } from './image.ts';
import { MAX_SNAPSHOTS, type Snapshot } from './snapshot.ts';
import { type L1Table, switchTables } from './snapshot-switch.ts';

/** Bytes of an id and a name that are told; more are kept, but nobody hears of them. */
const LONGEST_ID = 127;
const LONGEST_NAME = 255;

/** Throws ENOTSUP for images with an external data file: they cannot have any. */
export function listSnapshots(image: Qcow2Image): InternalSnapshot[] {
  checkHasOwnData(image);
  return image.snapshots.map((one) => ({
    id: one.id.toString('utf8', 0, LONGEST_ID),
    name: one.name.toString('utf8', 0, LONGEST_NAME),
    dateSeconds: one.dateSeconds,
    dateNanoseconds: one.dateNanoseconds,
    vmClockNanoseconds: one.vmClockNanoseconds,
    vmStateSize: one.vmStateSize,
    icount: one.icount,
  }));
}

/** Keeps the disk as it is now; no write may be under way. Answers the id. Throws IoError. */
export async function createSnapshot(image: Qcow2Image, wanted: NewSnapshot): Promise<string> {
  checkUsable(image);
  if (image.snapshots.length >= MAX_SNAPSHOTS)
    throw new IoError(errno.EFBIG, { syscall: 'snapshot' });
  checkHasOwnData(image);
  return image.lock.run(async () => {
    const id = nextId(image.snapshots);
    const active = { view: image.l1.view, offset: image.l1Offset, entries: image.l1Entries };
    const snapshot: Snapshot = {
      id: Buffer.from(id),
      name: Buffer.from(wanted.name).subarray(0, LONGEST_NAME),
      // The table that has been the active one becomes the snapshot's.
      l1Offset: image.l1Offset,
      l1Entries: image.l1Entries,
      dateSeconds: wanted.dateSeconds,
      dateNanoseconds: wanted.dateNanoseconds,
      vmClockNanoseconds: wanted.vmClockNanoseconds,
      vmStateSize: 0n,
      diskSize: BigInt(image.size),
      icount: undefined,
      unknownExtra: Buffer.alloc(0),
    };
    await switchTables(image, {
      l1: active,
      addend: 1,
      snapshots: [...image.snapshots, snapshot],
      frees: [],
    });
    return id;
  });
}

/** Deletes the first snapshot that is meant. Throws QmpError, or IoError. */
export async function deleteSnapshot(image: Qcow2Image, selector: SnapshotSelector): Promise<void> {
  checkUsable(image);
  checkHasOwnData(image);
  const { id, name } = selector;
  const snapshot = image.snapshots.find(
    (one) =>
      (id === undefined || one.id.equals(Buffer.from(id))) &&
      (name === undefined || one.name.equals(Buffer.from(name))),
  );
  if (snapshot === undefined) throw new QmpError("Can't find the snapshot");
  const { l1Offset: offset, l1Entries: entries } = snapshot;
  checkTable(
    { name: 'Snapshot L1 table', offset, entries, entryLength: 8, maxBytes: MAX_L1 },
    image.geometry.clusterSize,
  );
  try {
    await image.lock.run(async () => {
      const l1 = image.allocate(Math.max(8, entries * 8));
      if (entries > 0) await image.file.read(offset, entries * 8, l1, 0);
      const gone: L1Table = { view: l1.view, offset, entries };
      const active: L1Table = {
        view: image.l1.view,
        offset: image.l1Offset,
        entries: image.l1Entries,
      };
      await switchTables(image, {
        l1: gone,
        addend: -1,
        snapshots: image.snapshots.filter((one) => one !== snapshot),
        frees: [gone, active],
      });
    });
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to remove snapshot from snapshot list: ${error.reason}`, {
      cause: error,
    });
  }
}

function checkHasOwnData(image: Qcow2Image): void {
  if (image.geometry.hasDataFile) throw new IoError(errno.ENOTSUP, { syscall: 'snapshot' });
}

/** One more than the highest number that an id starts with. */
function nextId(snapshots: readonly Snapshot[]): string {
  let highest = 0n;
  for (const { id } of snapshots) {
    const number = leadingNumber(id.toString('latin1'));
    if (number > highest) highest = number;
  }
  return BigInt.asUintN(64, highest + 1n).toString();
}

/** As strtoul(3) reads it. */
function leadingNumber(text: string): bigint {
  const [, sign, digits] = /^[ \t\n\v\f\r]*([+-]?)(\d+)/.exec(text) ?? [];
  if (digits === undefined) return 0n;
  const largest = 2n ** 64n - 1n;
  const number = BigInt(digits);
  if (number > largest) return largest;
  return sign === '-' ? BigInt.asUintN(64, -number) : number;
}
