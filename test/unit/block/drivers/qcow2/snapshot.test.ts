// The table of internal snapshots, as bytes.

import { describe, expect, it } from 'vitest';
import type { BlockChild } from '../../../../../src/block/block-child.ts';
import {
  encodeSnapshots,
  readSnapshots,
  type Snapshot,
} from '../../../../../src/block/drivers/qcow2/snapshot.ts';
import { allocate } from '../../../../../src/sys/memory.ts';

/** A file with the table at 512, and zeroes after it. */
function fileWith(table: Buffer): BlockChild {
  return {
    read(offset: number, length: number, into: { bytes: Buffer }) {
      into.bytes.fill(0, 0, length);
      table.copy(into.bytes, 0, offset - 512);
    },
  } as unknown as BlockChild;
}

function read(
  table: Buffer,
  count: number,
): Promise<{ snapshots: readonly Snapshot[]; length: number }> {
  return readSnapshots(fileWith(table), { offset: 512, count, diskSize: 4096 }, allocate);
}

const snapshot: Snapshot = {
  id: Buffer.from('1'),
  name: Buffer.from('before'),
  l1Offset: 0x30000,
  l1Entries: 7,
  dateSeconds: 4_000_000_000,
  dateNanoseconds: 999_999_999,
  vmClockNanoseconds: 2n ** 63n + 1n,
  vmStateSize: 5n,
  diskSize: 2n ** 40n,
  icount: undefined,
  unknownExtra: Buffer.alloc(0),
};

describe('the snapshot table', () => {
  it('is read as it was written, with what nobody knows', async () => {
    const all: Snapshot[] = [
      snapshot,
      { ...snapshot, id: Buffer.from([0xff, 0xfe]), icount: 3n, vmStateSize: 2n ** 33n },
      { ...snapshot, name: Buffer.alloc(0), unknownExtra: Buffer.from('from the future') },
      { ...snapshot, name: Buffer.alloc(65535, 'n'), id: Buffer.alloc(65535, '7') },
      snapshot,
    ];
    const table = encodeSnapshots(all);
    const answer = await read(table, all.length);
    expect(answer.snapshots).toEqual(all);
    expect(answer.length).toBe(table.length);
  });

  it('may have entries without extra data, as old versions made them', async () => {
    const table = encodeSnapshots([{ ...snapshot, vmStateSize: 77n }]);
    const short = Buffer.concat([table.subarray(0, 40), table.subarray(64)]);
    short.writeUInt32BE(0, 36);
    const { snapshots } = await read(short, 1);
    expect(snapshots).toEqual([{ ...snapshot, vmStateSize: 77n, diskSize: 4096n }]);
  });

  it('ends names where C text ends', async () => {
    const { snapshots } = await read(
      encodeSnapshots([{ ...snapshot, name: Buffer.from('one\0two') }]),
      1,
    );
    expect(snapshots[0]?.name.toString()).toBe('one');
  });

  it('is refused when an entry claims too much', async () => {
    const table = encodeSnapshots([snapshot]);
    table.writeUInt32BE(1025, 36);
    await expect(read(table, 1)).rejects.toThrow(
      'Too much extra metadata in snapshot table entry 0',
    );
  });
});
