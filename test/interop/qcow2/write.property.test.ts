// Random requests to an image, compared with a buffer; qemu-img finds the image sound and the same in it.

import { describe, expect, it } from 'vitest';
import { MAY_UNMAP } from '../../../src/block/block-driver.ts';
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

const LENGTH = 4 * 2 ** 20 + 512 * 3;
const LONGEST = 150_000;
const PARALLEL = 6;

/** Every round: some requests at the same time that do not overlap each other. */
async function writeRandomly(
  { backend }: Opened,
  model: Buffer,
  next: () => number,
  rounds: number,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const running: Promise<void>[] = [];
    const part = Math.floor(model.length / PARALLEL);
    const shift = Math.floor(next() * part);
    for (let each = 0; each < PARALLEL; each++) {
      const start = (each * part + shift) % model.length;
      const room = Math.min(part, model.length - start);
      const offset = start + Math.floor(next() * room * 0.9);
      const length = Math.max(
        1,
        Math.min(start + room - offset, Math.floor(next() ** 3 * LONGEST)),
      );
      running.push(oneRequest({ backend }, model, next, offset, length));
    }
    await Promise.all(running);
    if (next() < 0.1) await backend.flush();
  }
}

async function oneRequest(
  { backend }: Pick<Opened, 'backend'>,
  model: Buffer,
  next: () => number,
  offset: number,
  length: number,
): Promise<void> {
  const kind = next();
  if (kind < 0.65) {
    const data = Buffer.alloc(length, 1 + Math.floor(next() * 255));
    data.copy(model, offset);
    await backend.write(offset, length, bufferOf(data), 0);
  } else if (kind < 0.85) {
    model.fill(0, offset, offset + length);
    await backend.writeZeroes(offset, length, kind < 0.75 ? MAY_UNMAP : 0);
  } else {
    // What a discard leaves is only certain after zeroes were written.
    model.fill(0, offset, offset + length);
    await backend.discard(offset, length);
    await backend.writeZeroes(offset, length);
  }
}

const layouts = [
  'compat=0.10',
  'compat=0.10,cluster_size=4096',
  'cluster_size=65536',
  'cluster_size=512,refcount_bits=1',
  'cluster_size=512,refcount_bits=64',
  'cluster_size=1024,refcount_bits=8',
  'cluster_size=4096,refcount_bits=2',
  'cluster_size=4096,refcount_bits=4',
  'cluster_size=16384,refcount_bits=32',
  'cluster_size=2M',
  'extended_l2=on,cluster_size=16384',
  'extended_l2=on,cluster_size=65536',
  'lazy_refcounts=on',
  'preallocation=metadata',
];

describe.skipIf(noQemuImg !== undefined)('random writes', () => {
  it.each(layouts.map((options, seed) => ({ options, seed })))(
    'leave a sound image with $options',
    async ({ options, seed }) => {
      const path = createImage({ path: `${scratch()}/image`, size: LENGTH, options });
      const opened = await openImage(path);
      const model = Buffer.alloc(LENGTH);
      await writeRandomly(opened, model, random(seed + 1), 40);
      expect((await contents(opened.backend)).equals(model)).toBe(true);
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
    },
  );

  it.each(['compat=0.10', 'cluster_size=4096', 'extended_l2=on'])(
    'over a backing file, with %s',
    async (options) => {
      const dir = scratch();
      const base = someContent(7, LENGTH - 70_000);
      const raw = rawFile(`${dir}/raw`, base);
      qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, `${dir}/base`);
      const path = createImage({
        path: `${dir}/image`,
        size: LENGTH,
        options: `backing_file=${dir}/base,backing_fmt=qcow2,${options}`,
      });
      const opened = await openImage(path);
      const model = Buffer.concat([base, Buffer.alloc(70_000)]);
      await writeRandomly(opened, model, random(9), 30);
      expect((await contents(opened.backend)).equals(model)).toBe(true);
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
    },
  );

  it.each(['cluster_size=4096', 'cluster_size=65536,refcount_bits=64'])(
    'over compressed clusters and a snapshot, with %s',
    async (options) => {
      const dir = scratch();
      const base = someContent(8, LENGTH);
      const raw = rawFile(`${dir}/raw`, base);
      const path = `${dir}/image`;
      qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path);
      qemuImg('snapshot', '-c', 'before', path);
      const opened = await openImage(path);
      const model = Buffer.from(base);
      await writeRandomly(opened, model, random(10), 30);
      expect((await contents(opened.backend)).equals(model)).toBe(true);
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
      qemuImg('snapshot', '-a', 'before', path);
      expect(contentsByQemu(path).equals(base)).toBe(true);
    },
  );

  it('to an external data file that is raw', async () => {
    const dir = scratch();
    const path = `${dir}/image`;
    createImage({ path, size: LENGTH, options: `data_file=${dir}/data,data_file_raw=on` });
    const opened = await openImage(path);
    const model = Buffer.alloc(LENGTH);
    await writeRandomly(opened, model, random(11), 30);
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(model)).toBe(true);
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(`${dir}/data`).subarray(0, LENGTH).equals(model)).toBe(true);
  });

  it('with caches as small as they get', async () => {
    const path = createImage({
      path: `${scratch()}/image`,
      size: LENGTH,
      options: 'cluster_size=512,refcount_bits=64',
    });
    const opened = await openImage(path, { 'l2-cache-size': 512, 'refcount-cache-size': 512 });
    const model = Buffer.alloc(LENGTH);
    await writeRandomly(opened, model, random(12), 30);
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(model)).toBe(true);
  });
});
