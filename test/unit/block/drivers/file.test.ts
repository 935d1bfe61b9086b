import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { BLOCK_DATA, BLOCK_ZERO, MAY_UNMAP } from '../../../../src/block/block-driver.ts';
import type { BlockNode } from '../../../../src/block/block-node.ts';
import { file } from '../../../../src/block/drivers/file/file.ts';
import type { ImageFile } from '../../../../src/block/drivers/file/image-file.ts';
import { O_DIRECT } from '../../../../src/sys/file.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { imageOf, KiB, MiB, pattern, writeBytes } from './file/image.ts';
import { openNode, scratch } from './open-node.ts';

async function readBack(
  node: BlockNode<ImageFile>,
  offset: number,
  length: number,
  at = 0,
): Promise<Buffer> {
  const into = allocate(at + length);
  into.bytes.fill(0xaa);
  await file.read(node, offset, length, into, at, 0);
  return into.bytes.subarray(at, at + length);
}

/** Status and length of every extent in [0, end). */
async function extents(node: BlockNode<ImageFile>, end: number): Promise<[string, number][]> {
  const found: [string, number][] = [];
  for (let at = 0; at < end; ) {
    const status = await file.blockStatus?.(node, at, end - at, true);
    if (status === undefined) throw new Error('no status');
    const length = Math.min(status.length, end - at);
    found.push([(status.status & BLOCK_ZERO) !== 0 ? 'hole' : 'data', length]);
    expect((status.status & (BLOCK_DATA | BLOCK_ZERO)) % 3).not.toBe(0);
    at += length;
  }
  return found;
}

describe('file: reading and writing', () => {
  it('reads what is in the file, at once when it is in the page cache', async () => {
    const content = pattern(8 * KiB);
    const node = await openNode(file, { filename: imageOf(content) });
    const into = allocate(4 * KiB + 16);
    expect(file.read(node, 1000, 4 * KiB, into, 16, 0)).toBeUndefined();
    expect(into.bytes.subarray(16, 16 + 4 * KiB)).toEqual(content.subarray(1000, 1000 + 4 * KiB));
    expect(into.bytes.subarray(0, 16)).toEqual(Buffer.alloc(16));
  });

  it('reads requests that are too large for the main thread through the pool', async () => {
    const content = pattern(3 * MiB);
    const node = await openNode(file, { filename: imageOf(content) });
    const into = allocate(3 * MiB);
    const later = file.read(node, 0, 3 * MiB, into, 0, 0);
    expect(later).toBeInstanceOf(Promise);
    await later;
    expect(into.bytes.equals(content)).toBe(true);
  });

  it('reads zeroes behind the end of a file of odd length', async () => {
    const node = await openNode(file, { filename: imageOf(Buffer.alloc(1000, 7)) });
    expect(node.length).toBe(1024);
    const tail = await readBack(node, 512, 512);
    expect(tail.subarray(0, 488)).toEqual(Buffer.alloc(488, 7));
    expect(tail.subarray(488)).toEqual(Buffer.alloc(24));
  });

  it('reads zeroes behind the end in the pool too', async () => {
    const node = await openNode(file, { filename: imageOf(Buffer.alloc(1000, 7)) });
    const into = await readBack(node, 0, 2 * MiB);
    expect(into.subarray(0, 1000)).toEqual(Buffer.alloc(1000, 7));
    expect(into.subarray(1000).every((byte) => byte === 0)).toBe(true);
  });

  it('writes small requests at once and large ones through the pool', async () => {
    const path = imageOf(4 * MiB);
    const node = await openNode(file, { filename: path });
    const content = pattern(2 * MiB);
    await writeBytes(node, 100, content.subarray(0, 5000), 28);
    await writeBytes(node, MiB, content);
    const now = readFileSync(path);
    expect(now.subarray(100, 5100)).toEqual(content.subarray(0, 5000));
    expect(now.subarray(MiB, 3 * MiB).equals(content)).toBe(true);
    expect(now.length).toBe(4 * MiB);
  });

  it('makes the file longer when written behind its end', async () => {
    const path = imageOf(1000);
    const node = await openNode(file, { filename: path });
    await writeBytes(node, 512, Buffer.alloc(512, 1));
    expect(statSync(path).size).toBe(1024);
  });

  it('raises the errno of a write that fails', async () => {
    const node = await openNode(
      file,
      { filename: imageOf(4096) },
      { settings: { readOnly: true } },
    );
    const from = allocate(512);
    expect(() => file.write?.(node, 0, 512, from, 0, 0)).toThrow(
      expect.objectContaining({ name: 'IoError', errno: errno.EBADF }),
    );
  });

  it('works on a file system that cannot tell whether a read would wait', async () => {
    const content = pattern(MiB);
    const node = await openNode(file, { filename: imageOf(content, scratch('/dev/shm')) });
    expect((await readBack(node, 0, MiB)).equals(content)).toBe(true);
    await writeBytes(node, 0, Buffer.alloc(512, 1));
    expect(await readBack(node, 0, 512)).toEqual(Buffer.alloc(512, 1));
  });

  it('flushes', async () => {
    const node = await openNode(file, { filename: imageOf(4096) });
    await expect(file.flush?.(node)).resolves.toBeUndefined();
  });

  it('fails every flush after one that failed', async () => {
    const node = await openNode(file, { filename: imageOf(4096) });
    const { fd } = node.state;
    node.state.fd = 9999;
    await expect(file.flush?.(node)).rejects.toMatchObject({ errno: errno.EBADF });
    node.state.fd = fd;
    await expect(file.flush?.(node)).rejects.toMatchObject({ errno: errno.EBADF });
  });
});

describe('file: direct I/O', () => {
  it('probes alignments and serves memory of any alignment', async () => {
    const content = pattern(64 * KiB);
    const path = imageOf(content);
    const node = await openNode(file, { filename: path }, { settings: { cacheDirect: true } });
    expect(node.state.openFlags & O_DIRECT).not.toBe(0);
    const { requestAlignment } = node.limits;
    expect(requestAlignment).toBeGreaterThanOrEqual(512);
    expect(await readBack(node, 8 * KiB, 16 * KiB, 16)).toEqual(
      content.subarray(8 * KiB, 24 * KiB),
    );
    expect(await readBack(node, 8 * KiB, 16 * KiB)).toEqual(content.subarray(8 * KiB, 24 * KiB));
    await writeBytes(node, 4 * KiB, Buffer.alloc(4 * KiB, 9), 28);
    expect(readFileSync(path).subarray(4 * KiB, 8 * KiB)).toEqual(Buffer.alloc(4 * KiB, 9));
  });

  it('reads zeroes behind an end that is not aligned', async () => {
    const node = await openNode(
      file,
      { filename: imageOf(Buffer.alloc(5000, 3)) },
      { settings: { cacheDirect: true } },
    );
    const bytes = await readBack(node, 0, 8 * KiB, 16);
    expect(bytes.subarray(0, 5000)).toEqual(Buffer.alloc(5000, 3));
    expect(bytes.subarray(5000)).toEqual(Buffer.alloc(8 * KiB - 5000));
  });
});

describe('file: zeroes, discards and holes', () => {
  it('tells data from holes exactly', async () => {
    const path = imageOf(0);
    const node = await openNode(file, { filename: path });
    await file.truncate?.(node, MiB, { exact: true, prealloc: 'off', flags: 0 });
    await writeBytes(node, 256 * KiB, Buffer.alloc(64 * KiB, 1));
    expect(await extents(node, MiB)).toEqual([
      // Growing an empty file puts data into its first block.
      ['data', 4 * KiB],
      ['hole', 252 * KiB],
      ['data', 64 * KiB],
      ['hole', MiB - 320 * KiB],
    ]);
  });

  it('answers about a file of odd length up to the sector', async () => {
    const node = await openNode(file, { filename: imageOf(Buffer.alloc(1000, 7)) });
    expect(await extents(node, 1024)).toEqual([
      ['data', 1000],
      ['hole', 24],
    ]);
  });

  it('calls everything data, without looking, when zeroes do not matter', async () => {
    const node = await openNode(file, { filename: imageOf(0) });
    const status = await file.blockStatus?.(node, 0, 64 * KiB, false);
    expect(status).toMatchObject({ length: 64 * KiB, hostOffset: 0, file: node });
    expect(Number(status?.status) & BLOCK_DATA).not.toBe(0);
  });

  it('discards by punching a hole', async () => {
    const node = await openNode(file, { filename: imageOf(pattern(MiB)) });
    await file.discard?.(node, 64 * KiB, 128 * KiB);
    expect(await extents(node, MiB)).toEqual([
      ['data', 64 * KiB],
      ['hole', 128 * KiB],
      ['data', MiB - 192 * KiB],
    ]);
    expect(node.state.discards).toEqual({ succeeded: 1, failed: 0, bytes: 128 * KiB });
  });

  it('counts a discard that fails', async () => {
    const node = await openNode(
      file,
      { filename: imageOf(4096) },
      { settings: { readOnly: true } },
    );
    await expect(file.discard?.(node, 0, 4096)).rejects.toMatchObject({ errno: errno.EBADF });
    expect(node.state.discards.failed).toBe(1);
  });

  it('zeroes a range and leaves it allocated', async () => {
    const path = imageOf(pattern(MiB));
    const node = await openNode(file, { filename: path });
    const blocks = statSync(path).blocks;
    await file.writeZeroes?.(node, 64 * KiB, 128 * KiB, 0);
    expect(
      readFileSync(path)
        .subarray(64 * KiB, 192 * KiB)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(statSync(path).blocks).toBeGreaterThanOrEqual(blocks);
  });

  it('zeroes a range with a hole when it may unmap', async () => {
    const path = imageOf(pattern(MiB));
    const node = await openNode(file, { filename: path });
    const blocks = statSync(path).blocks;
    await file.writeZeroes?.(node, 64 * KiB, 128 * KiB, MAY_UNMAP);
    expect(
      readFileSync(path)
        .subarray(64 * KiB, 192 * KiB)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(statSync(path).blocks).toBe(blocks - 256);
    expect(file.allocatedSize?.(node)).toBe((blocks - 256) * 512);
  });

  it('zeroes odd ranges to the byte', async () => {
    const content = pattern(64 * KiB);
    const path = imageOf(content);
    const node = await openNode(file, { filename: path });
    await file.writeZeroes?.(node, 4000, 9000, 0);
    await file.writeZeroes?.(node, 30_001, 9001, MAY_UNMAP);
    const expected = Buffer.from(content).fill(0, 4000, 13_000).fill(0, 30_001, 39_002);
    expect(readFileSync(path).equals(expected)).toBe(true);
  });

  it('zeroes where the file system has no call for it', async () => {
    const path = imageOf(pattern(64 * KiB), scratch('/dev/shm'));
    const node = await openNode(file, { filename: path });
    await file.writeZeroes?.(node, 4 * KiB, 8 * KiB, 0);
    expect(readFileSync(path).subarray(4 * KiB, 12 * KiB)).toEqual(Buffer.alloc(8 * KiB));
    expect(node.state.canZero).toBe(false);
  });
});

describe('file: resizing', () => {
  it('sets the length', async () => {
    const path = imageOf(4096);
    const node = await openNode(file, { filename: path });
    await file.truncate?.(node, 10 * MiB, { exact: true, prealloc: 'off', flags: 0 });
    expect(statSync(path).size).toBe(10 * MiB);
    await file.truncate?.(node, 512, { exact: true, prealloc: 'off', flags: 0 });
    expect(file.length(node)).toBe(512);
  });

  it('says why it could not', async () => {
    const node = await openNode(
      file,
      { filename: imageOf(4096) },
      { settings: { readOnly: true } },
    );
    const options = { exact: true, prealloc: 'off', flags: 0 } as const;
    await expect(file.truncate?.(node, 0, options)).rejects.toThrow(
      'Could not resize file: Invalid argument',
    );
  });

  it.each(['falloc', 'full'] as const)('reserves what it grows by with %s', async (prealloc) => {
    const path = imageOf(pattern(5000));
    const before = readFileSync(path);
    const node = await openNode(file, { filename: path });
    await file.truncate?.(node, 3 * MiB + 100, { exact: true, prealloc, flags: 0 });
    const status = statSync(path);
    expect(status.size).toBe(3 * MiB + 100);
    expect(status.blocks * 512).toBeGreaterThanOrEqual(status.size);
    const after = readFileSync(path);
    expect(after.subarray(0, 5000).equals(before)).toBe(true);
    expect(after.subarray(5000).every((byte) => byte === 0)).toBe(true);
    await file.truncate?.(node, 3 * MiB + 100, { exact: true, prealloc, flags: 0 });
  });

  it('refuses a preallocation that there is not, and one for shrinking', async () => {
    const path = imageOf(8192);
    const node = await openNode(file, { filename: path });
    const to = (length: number, prealloc: 'metadata' | 'falloc' | 'full') =>
      file.truncate?.(node, length, { exact: true, prealloc, flags: 0 });
    await expect(to(MiB, 'metadata')).rejects.toThrow('Unsupported preallocation mode: metadata');
    for (const prealloc of ['metadata', 'falloc', 'full'] as const) {
      await expect(to(4096, prealloc)).rejects.toThrow(
        'Cannot use preallocation for shrinking files',
      );
    }
    expect(statSync(path).size).toBe(8192);
  });

  it('has the old length again when there is no room', async () => {
    const path = imageOf(8192);
    const node = await openNode(file, { filename: path });
    const huge = 2 ** 52;
    for (const [prealloc, text] of [
      ['falloc', 'Could not preallocate new data: '],
      ['full', 'Could not resize file: '],
    ] as const) {
      const resized = file.truncate?.(node, huge, { exact: true, prealloc, flags: 0 });
      await expect(resized).rejects.toThrow(text);
    }
    expect(statSync(path).size).toBe(8192);
  });
});
