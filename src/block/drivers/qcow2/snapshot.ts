// The table of internal snapshots: what an image keeps of earlier states of its disk. It is read when the image is opened.
//
//   [ 0 ..  7]  l1_table_offset     [20 .. 23]  date_nsec
//   [ 8 .. 11]  l1_size             [24 .. 31]  vm_clock_nsec
//   [12 .. 13]  id_str_size         [32 .. 35]  vm_state_size
//   [14 .. 15]  name_size           [36 .. 39]  extra_data_size
//   [16 .. 19]  date_sec            extra data, id, name; padded to 8 bytes
//   extra data: vm_state_size_large (8), disk_size (8), icount (8)

import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockChild } from '../../block-child.ts';
import { u64 } from './l1-l2.ts';

export const SNAPSHOT_HEADER = 40;
export const MAX_SNAPSHOTS = 65536;
const MAX_EXTRA = 1024;
const MAX_TABLE = 1024 * MAX_SNAPSHOTS;
/** Longest entry: header, extra data, and two names of 16-bit lengths. */
const MAX_ENTRY = SNAPSHOT_HEADER + MAX_EXTRA + 2 * 65535;

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1Offset: number;
  readonly l1Entries: number;
}

/** Reads the table of `count` snapshots at `offset`. Throws QmpError. `length`: of the table, bytes. */
export async function readSnapshots(
  file: BlockChild,
  { offset, count }: { offset: number; count: number },
  allocate: (length: number) => IoBuffer,
): Promise<{ snapshots: readonly Snapshot[]; length: number }> {
  const snapshots: Snapshot[] = [];
  if (count === 0) return { snapshots, length: 0 };
  const buffer = allocate(MAX_ENTRY);
  let length = 0;
  for (let index = 0; index < count; index++) {
    length = Math.ceil(length / 8) * 8;
    await readPart(file, offset + length, MAX_ENTRY, buffer);
    const { view, bytes } = buffer;
    const extra = view.getUint32(36);
    if (extra > MAX_EXTRA) {
      throw new QmpError(`Too much extra metadata in snapshot table entry ${index}`, {
        hint: 'You can force-remove this extra metadata with qemu-img check -r all',
      });
    }
    const idLength = view.getUint16(12);
    const nameLength = view.getUint16(14);
    const idAt = SNAPSHOT_HEADER + extra;
    const nameAt = idAt + idLength;
    snapshots.push({
      id: bytes.toString('utf8', idAt, nameAt),
      name: bytes.toString('utf8', nameAt, nameAt + nameLength),
      l1Offset: u64(view, 0),
      l1Entries: view.getUint32(8),
    });
    length += nameAt + nameLength;
    if (length > MAX_TABLE) {
      throw new QmpError('Snapshot table is too big', {
        hint: `You can force-remove all ${count - index} overhanging snapshots with qemu-img check -r all`,
      });
    }
  }
  return { snapshots, length };
}

async function readPart(
  file: BlockChild,
  offset: number,
  length: number,
  buffer: IoBuffer,
): Promise<void> {
  try {
    await file.read(offset, length, buffer, 0);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to read snapshot table: ${error.reason}`, { cause: error });
  }
}
