// Compressed clusters that were written here, read by qemu-img, and what the filter `compress` does to an image.

import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../src/block/block-driver.ts';
import type { BlockdevOptions } from '../../../src/qapi/generated/types.ts';
import { bufferOf, type Opened, random, someContent } from '../../helpers/qcow2-disk.ts';
import {
  checkImage,
  contents,
  contentsByQemu,
  createImage,
  noQemuImg,
  openImage,
  qemuImg,
  rawFile,
  scratch,
} from '../../helpers/qcow2-images.ts';

const MIB = 2 ** 20;
const SIZE = 4 * MIB;

describe.skipIf(noQemuImg !== undefined)('compress', () => {
  it.each([
    'cluster_size=65536',
    'cluster_size=512,refcount_bits=64',
    'cluster_size=2M,compression_type=zstd',
    'compat=0.10,cluster_size=4096',
    'extended_l2=on,cluster_size=16384,compression_type=zstd',
    'cluster_size=4096,refcount_bits=2',
    'cluster_size=4096,refcount_bits=1',
    'lazy_refcounts=on',
  ])('writes what qemu-img reads, with %s', async (options) => {
    const path = createImage({ path: `${scratch()}/image`, size: SIZE, options });
    const content = someContent(11, SIZE);
    const { backend, opened } = await compressing(path);
    const piece = Math.max(65536, backend.limits.requestAlignment);
    const running: Promise<void>[] = [];
    for (let at = 0; at < SIZE; at += piece) {
      const data = content.subarray(at, at + piece);
      running.push(Promise.resolve(backend.write(at, data.length, bufferOf(data), 0)));
    }
    await Promise.all(running);
    expect((await contents(backend)).equals(content)).toBe(true);
    await backend.release();
    await opened.close();
    const check = checkImage(path);
    expect(check.status, check.text).toBe(0);
    expect(contentsByQemu(path).equals(content)).toBe(true);
    // With so few clusters tables are most of it; with one bit nothing can share a cluster.
    if (/2M|refcount_bits=1/.test(options)) return;
    expect(statSync(path).size).toBeLessThan(SIZE * 0.9);
  });

  it('widens requests to clusters, and leaves the rest of them to the backing file', async () => {
    const dir = scratch();
    const below = someContent(5, SIZE);
    rawFile(`${dir}/raw`, below);
    const options = 'backing_file=raw,backing_fmt=raw';
    const path = createImage({ path: `${dir}/image`, size: SIZE, options });
    const { backend, opened } = await compressing(path);
    const next = random(7);
    for (let cluster = 0; cluster < SIZE; cluster += 65536 * 3) {
      const data = someContent(cluster, 1 + Math.floor(next() * 60_000));
      const offset = cluster + Math.floor(next() * 5000);
      data.copy(below, offset);
      await backend.write(offset, data.length, bufferOf(data), 0);
    }
    await backend.release();
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(below)).toBe(true);
  });

  it('does not write a cluster twice, and can write it when it was discarded', async () => {
    const path = createImage({ path: `${scratch()}/image`, size: SIZE });
    const { backend, opened } = await compressing(path);
    const one = bufferOf(Buffer.alloc(65536, 1));
    const two = bufferOf(Buffer.alloc(65536, 2));
    await backend.write(0, 65536, one, 0);
    await expect(backend.write(0, 65536, two, 0)).rejects.toThrow('Input/output error');
    await backend.writeZeroes(0, 65536);
    await backend.write(0, 65536, two, 0);
    // Beside it, in the same host cluster.
    await backend.write(65536, 65536, one, 0);
    await backend.release();
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    const content = contentsByQemu(path);
    expect([content[0], content[65535], content[65536], content[131072]]).toEqual([2, 2, 1, 0]);
  });

  it('keeps apart what a snapshot has and what is written later', async () => {
    const path = createImage({ path: `${scratch()}/image`, size: SIZE });
    const first = await compressing(path);
    await first.backend.write(0, 65536, bufferOf(Buffer.alloc(65536, 1)), 0);
    await first.backend.release();
    await first.opened.close();
    qemuImg('snapshot', '-c', 'one', path);
    const { backend, opened } = await compressing(path);
    await backend.write(65536, 65536, bufferOf(Buffer.alloc(65536, 2)), 0);
    await backend.release();
    await opened.backend.write(0, 512, bufferOf(Buffer.alloc(512, 3)), 0);
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    const content = contentsByQemu(path);
    expect([content[0], content[512], content[65536]]).toEqual([3, 1, 2]);
    qemuImg('snapshot', '-a', 'one', path);
    expect(checkImage(path)).toMatchObject({ status: 0 });
    const before = contentsByQemu(path);
    expect([before[0], before[512], before[65536]]).toEqual([1, 1, 0]);
  });

  it('is refused where nothing can be compressed', async () => {
    const path = createImage({ path: `${scratch()}/image`, size: SIZE });
    const opened = await openImage(path);
    const over = (file: BlockdevOptions): Promise<unknown> =>
      opened.graph.add({ driver: 'compress', 'node-name': 'c', file });
    await expect(over({ driver: 'null-co' })).rejects.toThrow(
      'Compression is not supported for underlying format: null-co',
    );
  });
});

/** The image, and the filter over it. */
async function compressing(path: string): Promise<{ backend: BlockBackend; opened: Opened }> {
  // Nobody pulls the plug here.
  const opened = await openImage(path, { cache: { 'no-flush': true } });
  const node = await opened.graph.add({ driver: 'compress', 'node-name': 'c', file: 'image' });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  return { backend: opened.graph.backend(node, { perm, shared: PERM_ALL }), opened };
}
