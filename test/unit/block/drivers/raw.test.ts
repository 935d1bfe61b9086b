import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import {
  BLOCK_OFFSET_VALID,
  BLOCK_RAW,
  CHILD_DATA,
  CHILD_FILTER,
  CHILD_PRIMARY,
  MAY_UNMAP,
  NO_FALLBACK,
  OTHERS_WAIT,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
  WRITE_UNCHANGED,
  ZERO_WRITE,
} from '../../../../src/block/block-driver.ts';
import { file } from '../../../../src/block/drivers/file/file.ts';
import { raw } from '../../../../src/block/drivers/raw.ts';
import type { BlockdevOptionsRaw } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { openNode, scratch } from './open-node.ts';

const KiB = 1024;
const options = (own: object = {}) => ({ file: 'below', ...own }) as BlockdevOptionsRaw;

async function rawOver(length: number, own: object = {}) {
  const path = join(scratch(), 'disk.img');
  writeFileSync(path, Buffer.alloc(length, 1));
  const below = await openNode(file, { filename: path });
  const node = await openNode(raw, options(own), { child: below });
  return { path, below, node };
}

describe('raw', () => {
  it('is the whole file by default, and follows its length', async () => {
    const { path, below, node } = await rawOver(64 * KiB);
    expect(node.length).toBe(64 * KiB);
    expect(node.file?.role).toBe(CHILD_FILTER);
    writeFileSync(path, Buffer.alloc(128 * KiB));
    below.refreshLength();
    expect(node.length).toBe(128 * KiB);
  });

  it('takes over what the file understands', async () => {
    const { node } = await rawOver(64 * KiB);
    expect(node.supportedZeroFlags).toBe(WRITE_UNCHANGED | MAY_UNMAP | NO_FALLBACK);
    expect(node.supportedTruncateFlags).toBe(ZERO_WRITE);
    expect(node.supportedWriteFlags).toBe(WRITE_UNCHANGED | OTHERS_WAIT);
  });

  it('shifts every request by its offset', async () => {
    const { path, node } = await rawOver(64 * KiB, { offset: 4096, size: 8192 });
    expect(node.length).toBe(8192);
    expect(node.file?.role).toBe(CHILD_DATA | CHILD_PRIMARY);
    const buffer = allocate(1024);
    buffer.bytes.fill(2);
    await raw.write?.(node, 512, 512, buffer, 0, 0);
    await raw.writeZeroes?.(node, 1024, 512, 0);
    await raw.read(node, 512, 1024, buffer, 0, 0);
    const expected = Buffer.concat([Buffer.alloc(512, 2), Buffer.alloc(512)]);
    expect(buffer.bytes).toEqual(expected);
    expect(readFileSync(path).subarray(4608, 5632)).toEqual(expected);
    expect(await raw.blockStatus?.(node, 512, 100, true)).toEqual({
      status: BLOCK_RAW | BLOCK_OFFSET_VALID,
      length: 100,
      hostOffset: 4608,
      file: node.file?.node,
    });
  });

  it('lets nothing out of a window of fixed size', async () => {
    const { node } = await rawOver(64 * KiB, { size: 8192 });
    const buffer = allocate(1024);
    const noSpace = expect.objectContaining({ errno: errno.ENOSPC });
    expect(() => raw.write?.(node, 7680, 1024, buffer, 0, 0)).toThrow(noSpace);
    expect(() => raw.writeZeroes?.(node, 8192, 512, 0)).toThrow(noSpace);
    expect(() => raw.discard?.(node, 16384, 512)).toThrow(noSpace);
    expect(() => raw.read(node, 7680, 1024, buffer, 0, 0)).toThrow(
      expect.objectContaining({ errno: errno.EINVAL }),
    );
  });

  it('is as long as the file allows when that has shrunk', async () => {
    const { path, below, node } = await rawOver(64 * KiB, { offset: 8192, size: 32 * KiB });
    writeFileSync(path, Buffer.alloc(16 * KiB));
    below.refreshLength();
    expect(node.length).toBe(8 * KiB);
    writeFileSync(path, Buffer.alloc(4 * KiB));
    below.refreshLength();
    expect(node.length).toBe(0);
  });

  it('resizes the file, unless its size is fixed', async () => {
    const resize = { exact: true, prealloc: 'off', flags: 0 } as const;
    const { path, node } = await rawOver(64 * KiB, { offset: 512 });
    await raw.truncate?.(node, 128 * KiB, resize);
    expect(statSync(path).size).toBe(128 * KiB + 512);
    const fixed = await rawOver(64 * KiB, { size: 512 });
    expect(() => raw.truncate?.(fixed.node, 1024, resize)).toThrow(
      'Cannot resize fixed-size raw disks',
    );
    expect(() => raw.truncate?.(node, Number.MAX_SAFE_INTEGER, resize)).toThrow(
      'Disk size too large for the chosen offset',
    );
  });

  it('asks for writing only when somebody above writes', async () => {
    const { node } = await rawOver(64 * KiB, { size: 512 });
    const role = CHILD_DATA | CHILD_PRIMARY;
    const idle = raw.childPermissions?.(node, role, {
      perm: PERM_CONSISTENT_READ,
      shared: PERM_ALL,
    });
    expect(idle?.perm).toBe(PERM_CONSISTENT_READ);
    const writer = raw.childPermissions?.(node, role, { perm: PERM_WRITE, shared: PERM_ALL });
    expect(writer?.perm).toBe(PERM_WRITE);
  });

  const refused: [what: string, own: object, message: string][] = [
    [
      'an offset behind the end',
      { offset: 128 * KiB },
      'Offset (131072) cannot be greater than size of the containing file (65536)',
    ],
    [
      'a window that sticks out',
      { offset: 512, size: 64 * KiB },
      'The sum of offset (512) and size (65536) has to be smaller or equal to the  actual size of the containing file (65536)',
    ],
    ['a size that is no whole sectors', { size: 1000 }, 'Specified size is not multiple of 512'],
    ['a negative size', { size: -1 }, "Parameter 'size' expects a non-negative number below 2^64"],
    [
      'a negative offset',
      { offset: -1 },
      "Parameter 'offset' expects a non-negative number below 2^64",
    ],
  ];
  it.each(refused)('refuses %s', async (_what, own, message) => {
    await expect(rawOver(64 * KiB, own)).rejects.toThrow(message);
  });
});
