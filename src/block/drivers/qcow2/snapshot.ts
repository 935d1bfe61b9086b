// The table of internal snapshots: what an image keeps of earlier states of its disk. It is read when the image is opened, and
// written anew, somewhere else, whenever it changes.
//
//   [ 0 ..  7]  l1_table_offset     [20 .. 23]  date_nsec
//   [ 8 .. 11]  l1_size             [24 .. 31]  vm_clock_nsec
//   [12 .. 13]  id_str_size         [32 .. 35]  vm_state_size
//   [14 .. 15]  name_size           [36 .. 39]  extra_data_size
//   [16 .. 19]  date_sec            extra data, id, name; padded to 8 bytes
//   extra data: vm_state_size_large (8), disk_size (8), icount (8), then what nobody here knows

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer } from '../../../base/io-buffer.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockChild } from '../../block-child.ts';
import { u64 } from './l1-l2.ts';

export const SNAPSHOT_HEADER = 40;
export const MAX_SNAPSHOTS = 65536;
const MAX_EXTRA = 1024;
const KNOWN_EXTRA = 24;
const MAX_TABLE = 1024 * MAX_SNAPSHOTS;
/** Longest entry: header, extra data, and two names of 16-bit lengths. */
const MAX_ENTRY = SNAPSHOT_HEADER + MAX_EXTRA + 2 * 65535;
const LARGEST_32 = 0xffff_ffffn;
const NO_ICOUNT = 0xffff_ffff_ffff_ffffn;

/** An entry of the table. Numbers of 64 bits that nothing is done with are kept as they are. */
export interface Snapshot {
  /** Text, up to a NUL: its bytes need not be UTF-8. */
  readonly id: Buffer;
  readonly name: Buffer;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: bigint;
  /** Bytes. */
  readonly vmStateSize: bigint;
  readonly diskSize: bigint;
  /** Undefined: instructions were not counted. */
  readonly icount: bigint | undefined;
  readonly unknownExtra: Buffer;
}

/**
 * Reads the table of `count` snapshots at `offset`. `diskSize`: that of snapshots that do not say, bytes. Answers the length of
 * the table, too. Throws QmpError.
 */
export async function readSnapshots(
  file: BlockChild,
  { offset, count, diskSize }: { offset: number; count: number; diskSize: number },
  allocate: (length: number) => IoBuffer,
): Promise<{ snapshots: readonly Snapshot[]; length: number }> {
  const snapshots: Snapshot[] = [];
  if (count === 0) return { snapshots, length: 0 };
  const buffer = allocate(2 * MAX_ENTRY);
  let length = 0;
  // What of the table is in the buffer.
  let start = 0;
  let end = 0;
  for (let index = 0; index < count; index++) {
    length = Math.ceil(length / 8) * 8;
    if (length + MAX_ENTRY > end) {
      start = length;
      end = start + buffer.bytes.length;
      await readPart(file, offset + start, buffer);
    }
    const entry = buffer.bytes.subarray(length - start);
    const extra = entry.readUInt32BE(36);
    if (extra > MAX_EXTRA) {
      throw new QmpError(`Too much extra metadata in snapshot table entry ${index}`, {
        hint: 'You can force-remove this extra metadata with qemu-img check -r all',
      });
    }
    const decoded = decodeSnapshot(entry, BigInt(diskSize));
    snapshots.push(decoded.snapshot);
    length += decoded.length;
    if (length > MAX_TABLE) {
      throw new QmpError('Snapshot table is too big', {
        hint: `You can force-remove all ${count - index} overhanging snapshots with qemu-img check -r all`,
      });
    }
  }
  return { snapshots, length };
}

/** The whole table. Throws IoError when it is larger than it may be. */
export function encodeSnapshots(snapshots: readonly Snapshot[]): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  for (const snapshot of snapshots) {
    const padding = Buffer.alloc((8 - (length % 8)) % 8);
    const entry = encodeSnapshot(snapshot);
    parts.push(padding, entry);
    length += padding.length + entry.length;
    if (length > MAX_TABLE) throw new IoError(errno.EFBIG, { syscall: 'snapshot table' });
  }
  return Buffer.concat(parts);
}

function decodeSnapshot(entry: Buffer, diskSize: bigint): { snapshot: Snapshot; length: number } {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.length);
  const extra = view.getUint32(36);
  const idAt = SNAPSHOT_HEADER + extra;
  const nameAt = idAt + view.getUint16(12);
  const length = nameAt + view.getUint16(14);
  const extraNumber = (index: number): bigint | undefined =>
    extra < (index + 1) * 8 ? undefined : view.getBigUint64(SNAPSHOT_HEADER + index * 8);
  const icount = extraNumber(2);
  const snapshot: Snapshot = {
    id: upToNul(entry.subarray(idAt, nameAt)),
    name: upToNul(entry.subarray(nameAt, length)),
    l1Offset: u64(view, 0),
    l1Entries: view.getUint32(8),
    dateSeconds: view.getUint32(16),
    dateNanoseconds: view.getUint32(20),
    vmClockNanoseconds: view.getBigUint64(24),
    vmStateSize: extraNumber(0) ?? BigInt(view.getUint32(32)),
    diskSize: extraNumber(1) ?? diskSize,
    icount: icount === NO_ICOUNT ? undefined : icount,
    unknownExtra: Buffer.from(entry.subarray(Math.min(SNAPSHOT_HEADER + KNOWN_EXTRA, idAt), idAt)),
  };
  return { snapshot, length };
}

function encodeSnapshot(snapshot: Snapshot): Buffer {
  const { id, name, unknownExtra, vmStateSize } = snapshot;
  const fixed = Buffer.alloc(SNAPSHOT_HEADER + KNOWN_EXTRA);
  fixed.writeBigUInt64BE(BigInt.asUintN(64, BigInt(snapshot.l1Offset)), 0);
  fixed.writeUInt32BE(snapshot.l1Entries, 8);
  fixed.writeUInt16BE(id.length, 12);
  fixed.writeUInt16BE(name.length, 14);
  fixed.writeUInt32BE(snapshot.dateSeconds, 16);
  fixed.writeUInt32BE(snapshot.dateNanoseconds, 20);
  fixed.writeBigUInt64BE(snapshot.vmClockNanoseconds, 24);
  // Who knows only this field takes one that does not fit for a snapshot without state, not for one with half of it.
  fixed.writeUInt32BE(vmStateSize > LARGEST_32 ? 0 : Number(vmStateSize), 32);
  fixed.writeUInt32BE(KNOWN_EXTRA + unknownExtra.length, 36);
  fixed.writeBigUInt64BE(vmStateSize, SNAPSHOT_HEADER);
  fixed.writeBigUInt64BE(snapshot.diskSize, SNAPSHOT_HEADER + 8);
  fixed.writeBigUInt64BE(snapshot.icount ?? NO_ICOUNT, SNAPSHOT_HEADER + 16);
  return Buffer.concat([fixed, unknownExtra, id, name]);
}

function upToNul(text: Buffer): Buffer {
  const nul = text.indexOf(0);
  return Buffer.from(nul === -1 ? text : text.subarray(0, nul));
}

async function readPart(file: BlockChild, offset: number, buffer: IoBuffer): Promise<void> {
  try {
    await file.read(offset, buffer.bytes.length, buffer, 0);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to read snapshot table: ${error.reason}`, { cause: error });
  }
}
