// Images that were not closed, and lazy refcounts: what the daemon repairs is sound to qemu-img, and nothing is lost.

import { closeSync, copyFileSync, openSync, truncateSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import { type BlockDriver, PERM_ALL, PERM_WRITE } from '../../../src/block/block-driver.ts';
import { blockDrivers } from '../../../src/block/drivers/index.ts';
import type { Qcow2Image } from '../../../src/block/drivers/qcow2/image.ts';
import { bufferOf, openDisk, someContent } from '../../helpers/qcow2-disk.ts';
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
const AT_INCOMPATIBLE = 79;
const layouts = [
  'lazy_refcounts=on',
  'lazy_refcounts=on,cluster_size=512,refcount_bits=64',
  'lazy_refcounts=on,extended_l2=on,cluster_size=16384',
  'lazy_refcounts=on,cluster_size=4096,refcount_bits=2',
];

describe.skipIf(noQemuImg !== undefined)('lazy refcounts', () => {
  it.each(layouts)('are not on disk before the image is closed, with %s', async (options) => {
    const { path, copy, content } = await dirtyImage(options);
    expect(information(path)).not.toMatchObject({ 'dirty-flag': true });
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(content)).toBe(true);
    // As a crash would have left it.
    expect(information(copy)).toMatchObject({ 'dirty-flag': true });
    expect(checkImage(copy).status).toBe(2);
  });

  it.each(layouts)(
    'are repaired when the image is opened for writing, with %s',
    async (options) => {
      const { copy, content } = await dirtyImage(options);
      const opened = await openImage(copy);
      expect((await contents(opened.backend)).equals(content)).toBe(true);
      const more = someContent(3, 200_000);
      await opened.backend.write(2 * MIB, more.length, bufferOf(more), 0);
      more.copy(content, 2 * MIB);
      await opened.close();
      expect(checkImage(copy)).toMatchObject({ status: 0 });
      expect(contentsByQemu(copy).equals(content)).toBe(true);
    },
  );

  it('are left alone in an image that is only read', async () => {
    const { copy, content } = await dirtyImage('lazy_refcounts=on');
    const opened = await openImage(copy, { 'read-only': true });
    expect((await contents(opened.backend)).equals(content)).toBe(true);
    await opened.close();
    expect(information(copy)).toMatchObject({ 'dirty-flag': true });
  });

  it('are an option, too, whatever the image says', async () => {
    const dir = scratch();
    const path = createImage({ path: `${dir}/image`, size: MIB });
    const opened = await openImage(path, { 'lazy-refcounts': true });
    await opened.backend.write(0, 512, bufferOf(Buffer.alloc(512, 1)), 0);
    await opened.backend.flush();
    copyFileSync(path, `${dir}/copy`);
    await opened.close();
    expect(information(`${dir}/copy`)).toMatchObject({ 'dirty-flag': true });
    const other = createImage({ path: `${dir}/other`, size: MIB, options: 'lazy_refcounts=on' });
    const strict = await openImage(other, { 'lazy-refcounts': false });
    await strict.backend.write(0, 512, bufferOf(Buffer.alloc(512, 1)), 0);
    await strict.backend.flush();
    copyFileSync(other, `${dir}/copy`);
    await strict.close();
    expect(information(`${dir}/copy`)).not.toMatchObject({ 'dirty-flag': true });
    expect(checkImage(`${dir}/copy`)).toMatchObject({ status: 0 });
    const old = createImage({ path: `${dir}/old`, size: MIB, options: 'compat=0.10' });
    await expect(openDisk(old, { 'lazy-refcounts': true })).rejects.toThrow(
      'Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level',
    );
  });
});

describe.skipIf(noQemuImg !== undefined)('repair', () => {
  it.each(layouts)(
    'comes before an image becomes writable by reopening, with %s',
    async (layout) => {
      const { copy, content } = await dirtyImage(layout);
      const opened = await openImage(copy, { 'read-only': true });
      const { graph, backend } = opened;
      expect((await contents(backend)).equals(content)).toBe(true);
      const options = {
        driver: 'qcow2',
        'node-name': 'image',
        file: { driver: 'file', filename: copy },
      } as const;
      await graph.reopen([options]);
      expect(information(copy)).not.toMatchObject({ 'dirty-flag': true });
      const writer = graph.backend(graph.find(undefined, 'image'), {
        perm: PERM_WRITE,
        shared: PERM_ALL,
      });
      const more = someContent(4, 200_000);
      await writer.write(2 * MIB, more.length, bufferOf(more), 0);
      more.copy(content, 2 * MIB);
      await writer.release();
      // What is written from now on has its own dirty bit, which is no reason to repair anything.
      await graph.reopen([{ ...options, 'l2-cache-size': 65_536 }]);
      expect((await contents(backend)).equals(content)).toBe(true);
      await opened.close();
      expect(checkImage(copy)).toMatchObject({ status: 0 });
      expect(contentsByQemu(copy).equals(content)).toBe(true);
    },
  );

  it('that fails when an image becomes writable has it not used any more', async () => {
    const { copy } = await dirtyImage('lazy_refcounts=on,cluster_size=512');
    truncateSync(copy, 2 ** 40);
    const opened = await openImage(copy, { 'read-only': true });
    const { graph, backend } = opened;
    await graph.reopen([
      { driver: 'qcow2', 'node-name': 'image', file: { driver: 'file', filename: copy } },
    ]);
    await expect(contents(backend)).rejects.toMatchObject({ errno: errno.ENOMEDIUM });
    await opened.close();
    expect(information(copy)).toMatchObject({ 'dirty-flag': true });
  });

  it('counts what snapshots, bitmaps and compressed clusters use', async () => {
    const { path, content } = fullImage();
    // All refcounts but those of the header are gone.
    const image = await imageOf(path);
    patch(path, AT_INCOMPATIBLE, Buffer.from([1]));
    patch(path, image.block + 2, Buffer.alloc(image.clusterSize - 2));
    expect(checkImage(path).status).toBe(2);
    const opened = await openImage(path);
    expect((await contents(opened.backend)).equals(content)).toBe(true);
    await opened.close();
    const check = checkImage(path);
    expect(check.status, check.text).toBe(0);
    qemuImg('bitmap', '--remove', path, 'bits');
    qemuImg('snapshot', '-a', 'one', path);
    expect(contentsByQemu(path).equals(content)).toBe(true);
  });

  it('is refused for a file of more clusters than anybody has', async () => {
    const { copy } = await dirtyImage('lazy_refcounts=on,cluster_size=512');
    truncateSync(copy, 2 ** 40);
    await expect(openDisk(copy)).rejects.toThrow('Could not repair dirty image: File too large');
  });

  it('puts single refcounts right, too many and too few, and COPIED flags', async () => {
    const { path, content } = fullImage();
    const image = await imageOf(path);
    patch(path, AT_INCOMPATIBLE, Buffer.from([1]));
    // The L1 table's cluster three times; a cluster that nobody uses.
    patch(path, image.block + 2 * image.l1Cluster, Buffer.from([0, 3]));
    patch(path, image.block + 2 * 200, Buffer.from([0, 1]));
    expect(checkImage(path).status).not.toBe(0);
    const opened = await openImage(path);
    expect((await contents(opened.backend)).equals(content)).toBe(true);
    await opened.close();
    const check = checkImage(path);
    expect(check.status, check.text).toBe(0);
  });

  it.each([
    ['reserved bits', 7, 1],
    ['a place in no cluster', 6, 2],
    ['a place outside of the file', 1, 1],
    ['the place of the table', 5, 1],
    ['no place', 5, 0],
  ])('makes refcounts anew where a block has %s', async (_, at, value) => {
    const { path, content } = fullImage();
    const image = await imageOf(path);
    patch(path, AT_INCOMPATIBLE, Buffer.from([1]));
    patch(path, image.table + at, Buffer.from([value]));
    const opened = await openImage(path);
    expect((await contents(opened.backend)).equals(content)).toBe(true);
    await opened.close();
    const check = checkImage(path);
    expect(check.status, check.text).toBe(0);
  });

  it('does it again after having been interrupted at any write', async () => {
    const { copy, content } = await dirtyImage('lazy_refcounts=on,cluster_size=4096');
    const dir = scratch();
    for (let writes = 0; ; writes++) {
      const path = `${dir}/${writes}`;
      copyFileSync(copy, path);
      if (!(await interruptedRepair(path, writes))) break;
      const opened = await openDisk(path);
      expect((await contents(opened.backend)).equals(content)).toBe(true);
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
    }
  });
});

/** Opens the image, and lets all writes fail after the first few. Answers whether one has failed. */
async function interruptedRepair(path: string, writes: number): Promise<boolean> {
  let left = writes;
  const count = (): void => {
    if (left-- <= 0) throw new IoError(errno.EIO, { syscall: 'write' });
  };
  const { file } = blockDrivers;
  const failing: BlockDriver = {
    ...file,
    write(...args) {
      count();
      return file.write?.(...args);
    },
  };
  try {
    const opened = await openDisk(path, {}, { file: failing });
    await opened.close();
    return left < 0;
  } catch {
    return true;
  }
}

/** An image that was written and flushed, closed as `path` and not as `copy`. */
async function dirtyImage(
  options: string,
): Promise<{ path: string; copy: string; content: Buffer }> {
  const dir = scratch();
  const path = createImage({ path: `${dir}/image`, size: 4 * MIB, options });
  const copy = `${dir}/copy`;
  const content = Buffer.alloc(4 * MIB);
  const opened = await openImage(path);
  for (const offset of [0, 700_000, 3 * MIB]) {
    const data = someContent(offset, 300_000);
    data.copy(content, offset);
    await opened.backend.write(offset, data.length, bufferOf(data), 0);
  }
  await opened.backend.flush();
  copyFileSync(path, copy);
  await opened.close();
  return { path, copy, content };
}

/** One with compressed clusters, a snapshot and a bitmap, of 64 KiB clusters. */
function fullImage(): { path: string; content: Buffer } {
  const dir = scratch();
  const content = someContent(9, 4 * MIB);
  const raw = rawFile(`${dir}/raw`, content);
  const path = `${dir}/image`;
  qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, path);
  qemuImg('bitmap', '--add', path, 'bits');
  qemuImg('snapshot', '-c', 'one', path);
  return { path, content };
}

interface Places {
  readonly clusterSize: number;
  readonly table: number;
  readonly block: number;
  readonly l1Cluster: number;
}

async function imageOf(path: string): Promise<Places> {
  const opened = await openImage(path, { 'read-only': true });
  const image = opened.graph.find(undefined, 'image').state as Qcow2Image;
  const { clusterSize } = image.geometry;
  const places = {
    clusterSize,
    table: image.refcountTableOffset,
    block: Number(image.refcountTable.view.getBigUint64(0)),
    l1Cluster: image.l1Offset / clusterSize,
  };
  await opened.close();
  return places;
}

function information(path: string): unknown {
  return JSON.parse(qemuImg('info', '--output=json', '-U', path));
}

function patch(path: string, offset: number, bytes: Buffer): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}
