// Disks that get longer and shorter, looked at by qemu-img.

import { copyFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { Qcow2Node } from '../../../src/block/drivers/qcow2/image.ts';
import { bufferOf, random, someContent } from '../../helpers/qcow2-disk.ts';
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

describe.skipIf(noQemuImg !== undefined)('truncate', () => {
  it.each([
    'cluster_size=512',
    'cluster_size=512,refcount_bits=64',
    'compat=0.10',
    'extended_l2=on',
  ])('up and down with writes in between, with %s', async (options) => {
    const path = createImage({ path: `${scratch()}/image`, size: MIB, options });
    const opened = await openImage(path);
    const node = opened.graph.find(undefined, 'image');
    const backend = opened.graph.backend(node, {
      perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
      shared: PERM_ALL,
    });
    const next = random(3);
    let model = Buffer.alloc(MIB);
    for (const size of [3 * MIB, 2 * MIB, 17 * MIB, MIB / 2, 5 * MIB]) {
      const data = someContent(size, 20_000);
      for (let times = 0; times < 5; times++) {
        const offset = Math.floor(next() * (model.length - data.length));
        data.copy(model, offset);
        await backend.write(offset, data.length, bufferOf(data), 0);
      }
      await backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
      expect(backend.length).toBe(size);
      const longer = Buffer.alloc(size);
      model.copy(longer);
      model = longer;
    }
    expect((await contents(backend)).equals(model)).toBe(true);
    await backend.release();
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(model)).toBe(true);
  });

  it.each([
    'preallocation=metadata',
    'preallocation=metadata,cluster_size=4096',
    'preallocation=metadata,extended_l2=on',
    'preallocation=metadata,compat=0.10',
  ])('leaves as much of the file as qemu-img does, with %s', async (options) => {
    const dir = scratch();
    const path = createImage({ path: `${dir}/image`, size: 20 * MIB, options });
    copyFileSync(path, `${dir}/theirs`);
    const opened = await openImage(path);
    const node = opened.graph.find(undefined, 'image');
    const backend = opened.graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL });
    for (const size of [9 * MIB, 100 * 1024 + 512, 512]) {
      await backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
      qemuImg('resize', '-q', '--shrink', '-f', 'qcow2', `${dir}/theirs`, String(size));
      expect(statSync(path).size).toBe(statSync(`${dir}/theirs`).size);
    }
    await backend.release();
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
  });

  it('has the caches hold what they would for a disk of that length', async () => {
    const options = 'cluster_size=4096';
    const path = createImage({ path: `${scratch()}/image`, size: MIB, options });
    const { graph } = await openImage(path);
    const node = graph.find(undefined, 'image') as unknown as Qcow2Node;
    const backend = graph.backend(node, { perm: PERM_RESIZE, shared: PERM_ALL });
    expect(node.state.l2Cache.capacity).toBe(2);
    const limits: number[] = [];
    // A table is for 2 MiB of the disk, and 32 MiB of tables are the limit.
    for (const size of [2 ** 30, 2 ** 40, 2 ** 30]) {
      await backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
      limits.push(node.state.l2Cache.capacity);
    }
    expect(limits).toEqual([512, 8192, 512]);
    await backend.release();
  });

  it.each(['cluster_size=4096', 'extended_l2=on,cluster_size=16384', 'extended_l2=on'])(
    'from within a compressed cluster over a longer backing file, with %s',
    async (layout) => {
      const dir = scratch();
      // Without zeroes, which qemu-img would leave to the backing file.
      const content = someContent(6, MIB).map((byte) => byte || 1);
      const top = rawFile(`${dir}/top`, Buffer.from(content));
      const below = rawFile(`${dir}/below`, Buffer.alloc(3 * MIB, 0xaa));
      const path = `${dir}/image`;
      const start = MIB - 5 * 512;
      qemuImg('convert', '-q', '-c', '-O', 'qcow2', '-o', layout, '-f', 'raw', top, path);
      qemuImg('resize', '-q', '--shrink', '-f', 'qcow2', path, String(start));
      qemuImg('rebase', '-q', '-u', '-f', 'qcow2', '-b', below, '-F', 'raw', path);
      const opened = await openImage(path);
      const node = opened.graph.find(undefined, 'image');
      const perm = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE;
      const backend = opened.graph.backend(node, { perm, shared: PERM_ALL });
      await backend.truncate(2 * MIB, { exact: true, prealloc: 'off', flags: 0 });
      const model = Buffer.alloc(2 * MIB);
      model.set(content.subarray(0, start));
      expect((await contents(backend)).equals(model)).toBe(true);
      await backend.release();
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
    },
  );

  it.each(['compat=0.10', 'compat=1.1'])(
    'does not show more of a longer backing file, with %s',
    async (options) => {
      const dir = scratch();
      const content = someContent(5, 3 * MIB);
      const raw = rawFile(`${dir}/raw`, content);
      const path = `${dir}/image`;
      const over = `${options},backing_file=${raw},backing_fmt=raw`;
      createImage({ path, size: 1_000_000, options: over });
      const opened = await openImage(path);
      const { length } = opened.backend;
      const node = opened.graph.find(undefined, 'image');
      const backend = opened.graph.backend(node, {
        perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
        shared: PERM_ALL,
      });
      const grow = (size: number): Promise<void> =>
        backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
      const model = Buffer.alloc(options === 'compat=0.10' ? 16 * 65536 : 2 * MIB);
      content.copy(model, 0, 0, length);
      if (options === 'compat=0.10') {
        // Zeroes can only be written, and the reference does that to the end of a cluster.
        await expect(grow(2 * MIB)).rejects.toThrow(
          'Failed to zero out new clusters: Operation not supported',
        );
      }
      await grow(model.length);
      expect((await contents(backend)).equals(model)).toBe(true);
      await backend.release();
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
    },
  );
});
