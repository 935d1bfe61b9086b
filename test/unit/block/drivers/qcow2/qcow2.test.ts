// The driver over a recorded image: no qemu-img is needed.

import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BLOCK_DATA, BLOCK_ZERO } from '../../../../../src/block/block-driver.ts';
import type { BlockDrivers } from '../../../../../src/block/block-graph.ts';
import { blockDrivers } from '../../../../../src/block/drivers/index.ts';
import type { BlockdevOptionsQcow2 } from '../../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { bufferOf, type Opened, openDisk } from '../../../../helpers/qcow2-disk.ts';
import { smallQcow2 } from '../../../../helpers/small-qcow2.ts';
import { testGraph } from '../../graph-fixture.ts';
import { recordedDisk, recordedImage } from './recorded.ts';

/** L2 tables of 64 KiB, which fit into a cluster of their own as entries. */
const TABLES = 1024;
/** More than there may be functions that call each other. */
const PIECES = 8192;

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

function onDisk(image: Buffer): string {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'image'), image);
  return join(directory, 'image');
}

async function opened(
  path: string,
  options: Partial<BlockdevOptionsQcow2> & { 'read-only'?: boolean } = {},
): Promise<Opened> {
  const disk = await openDisk(path, options);
  cleanups.push(() => disk.close());
  return disk;
}

async function contentsOf({ backend }: Opened): Promise<Buffer> {
  const whole = allocate(backend.length);
  await backend.read(0, backend.length, whole, 0);
  return whole.bytes;
}

describe('qcow2', () => {
  it('reads data, zeroes, compressed clusters and what is not there', async () => {
    const disk = await opened(onDisk(recordedImage()), { 'read-only': true });
    expect((await contentsOf(disk)).equals(recordedDisk())).toBe(true);
    expect(await disk.backend.blockStatus(1024, 4096)).toMatchObject({
      status: expect.anything(),
      length: 1024,
    });
    expect((await disk.backend.blockStatus(8192, 512)).status & BLOCK_DATA).toBe(BLOCK_DATA);
    expect((await disk.backend.blockStatus(4096, 512)).status & BLOCK_ZERO).toBe(BLOCK_ZERO);
  });

  it('reads and writes its own clusters without waiting once their table is there', async () => {
    const { backend } = await opened(onDisk(recordedImage()));
    const buffer = bufferOf(Buffer.alloc(512, 3));
    await backend.read(1024, 512, buffer, 0);
    expect(backend.read(1024, 512, buffer, 0)).toBeUndefined();
    await backend.write(1024, 512, buffer, 0);
    await backend.read(1024, 512, buffer, 0);
  });

  it('writes over a disk that is in thousands of pieces, at once', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'qcow2-'));
    cleanups.push(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 'image');
    const graph = testGraph();
    cleanups.push(() => graph.close());
    await graph.imageMaker({ driver: 'file', filename: path, size: 0 })();
    const file = { driver: 'file', filename: path } as const;
    await graph.imageMaker({ driver: 'qcow2', file, size: PIECES * 512, 'cluster-size': 512 })();
    const { backend } = await opened(path);
    const buffer = bufferOf(Buffer.alloc(PIECES * 512, 4));
    for (let piece = PIECES - 1; piece >= 0; piece--) {
      await backend.write(piece * 512, 512, buffer, 0);
    }
    buffer.bytes.fill(5);
    await backend.write(0, PIECES * 512, buffer, 0);
    const found = allocate(PIECES * 512);
    await backend.read(0, PIECES * 512, found, 0);
    expect(found.bytes.equals(buffer.bytes)).toBe(true);
  });

  it('has its bitmaps as they were when the backing file cannot be opened', async () => {
    const backing = { file: '/nowhere/base', format: 'raw' };
    const bitmaps = [{ name: 'one', bits: [0b101] }];
    const path = onDisk(smallQcow2({ backing, bitmaps }));
    await expect(openDisk(path)).rejects.toThrow('Could not open backing file');
    const { graph } = await opened(path, { 'read-only': true, backing: null });
    const [bitmap] = graph.find(undefined, 'image').dirtyBitmaps;
    expect(bitmap).toMatchObject({ name: 'one', inconsistent: false, dirtyBytes: 2 * 65536 });
  });

  it('keeps what was written, after it was closed', async () => {
    const path = onDisk(recordedImage());
    const disk = await opened(path);
    const model = recordedDisk();
    for (const [offset, length, value] of [
      [0, 16384, 1],
      [8192, 10, 2],
      [511, 1026, 3],
    ] as const) {
      model.fill(value, offset, offset + length);
      await disk.backend.write(offset, length, bufferOf(Buffer.alloc(length, value)), 0);
    }
    await disk.backend.writeZeroes(2048, 1024);
    model.fill(0, 2048, 3072);
    expect((await contentsOf(disk)).equals(model)).toBe(true);
    await disk.close();
    const again = await opened(path, { 'read-only': true });
    expect((await contentsOf(again)).equals(model)).toBe(true);
  });

  it('waits for a write to the same new cluster that is under way', async () => {
    const disk = await opened(onDisk(recordedImage()));
    const one = bufferOf(Buffer.alloc(256, 1));
    const other = bufferOf(Buffer.alloc(256, 2));
    await Promise.all([
      disk.backend.write(12288, 256, one, 0),
      disk.backend.write(12544, 256, other, 0),
    ]);
    const seen = await contentsOf(disk);
    expect(seen.subarray(12288, 12800).equals(Buffer.concat([one.bytes, other.bytes]))).toBe(true);
  });

  it('does not touch an image that is only read', async () => {
    const path = onDisk(recordedImage());
    const disk = await opened(path, { 'read-only': true });
    await contentsOf(disk);
    await disk.close();
    expect(readFileSync(path).equals(recordedImage())).toBe(true);
  });

  it('clears autoclear bits that nobody knows when it may write, and only then', async () => {
    const image = recordedImage();
    image.writeBigUInt64BE(1n << 40n, 88);
    const path = onDisk(image);
    await (await opened(path, { 'read-only': true })).close();
    expect(readFileSync(path).readBigUInt64BE(88)).toBe(1n << 40n);
    await (await opened(path)).close();
    expect(readFileSync(path).readBigUInt64BE(88)).toBe(0n);
  });

  it('repairs an image that was not closed, when it is opened for writing', async () => {
    const image = recordedImage();
    image.writeBigUInt64BE(1n, 72);
    const path = onDisk(image);
    await expect(opened(path)).resolves.toBeDefined();
    expect(readFileSync(path).readBigUInt64BE(72)).toBe(0n);
  });

  it('lets others have their turns while it repairs an image of many tables', async () => {
    const path = onDisk(smallQcow2({ patches: [[72 + 7, '01']] }));
    const l1 = Buffer.alloc(TABLES * 8);
    for (let index = 0; index < TABLES; index++) {
      l1.writeBigUInt64BE(2n ** 63n + BigInt((16 + index) * 65536), index * 8);
    }
    const image = openSync(path, 'r+');
    writeSync(image, Buffer.from([0, 0, TABLES >> 8, TABLES & 0xff]), 0, 4, 36);
    writeSync(image, l1, 0, l1.length, 3 * 65536);
    ftruncateSync(image, (16 + TABLES) * 65536);
    closeSync(image);
    let reads = 0;
    let most = 0;
    const file: BlockDrivers['file'] = {
      ...blockDrivers.file,
      read(...read) {
        most = Math.max(most, ++reads);
        return blockDrivers.file.read(...read);
      },
    };
    let next = setImmediate(function turn() {
      reads = 0;
      next = setImmediate(turn);
    });
    const disk = await openDisk(path, {}, { file });
    clearImmediate(next);
    await disk.close();
    expect(most).toBeLessThan(TABLES / 16);
  });

  it('refuses encrypted images', async () => {
    const image = recordedImage();
    image.writeUInt32BE(1, 32);
    await expect(opened(onDisk(image))).rejects.toThrow(
      "Parameter 'encrypt.key-secret' is required for cipher",
    );
  });

  it('names unknown features by the table in the image', async () => {
    const image = recordedImage();
    image.writeBigUInt64BE(1n << 62n, 72);
    const extension = Buffer.alloc(8 + 48 + 8);
    extension.writeUInt32BE(0x6803f857, 0);
    extension.writeUInt32BE(48, 4);
    extension.writeUInt8(62, 9);
    extension.write('time travel', 10);
    extension.copy(image, image.readUInt32BE(100));
    await expect(opened(onDisk(image))).rejects.toThrow(
      'Unsupported qcow2 feature(s): time travel',
    );
  });

  it.each([
    [{ 'cache-size': -1 }, "Parameter 'cache-size' expects a non-negative number below 2^64"],
    [{ 'cache-size': 4096, 'l2-cache-size': 8192 }, 'l2-cache-size may not exceed cache-size'],
    [
      { 'cache-size': 4096, 'l2-cache-size': 1, 'refcount-cache-size': 1 },
      'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
    ],
    [
      { 'l2-cache-entry-size': 1000 },
      'L2 cache entry size must be a power of two between 512 and the cluster size (512)',
    ],
    [{ 'cache-clean-interval': 2 ** 32 }, 'Cache clean interval too big'],
    [{ 'l2-cache-entry-size': 512, 'refcount-cache-size': 2 ** 50 }, 'Refcount cache size too big'],
  ])('refuses %j', async (options, text) => {
    await expect(opened(onDisk(recordedImage()), options)).rejects.toThrow(text);
  });
});
