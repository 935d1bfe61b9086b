// Internal snapshots of qcow2 images: taken and deleted here and by qemu-img, between random writes; qemu-img finds the image
// sound and each snapshot as the disk was.

import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MAY_UNMAP } from '../../../src/block/block-driver.ts';
import {
  bufferOf,
  dropSnapshot as drop,
  type Opened,
  random,
  someContent,
  takeSnapshot as take,
} from '../../helpers/qcow2-disk.ts';
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
import { WriteTrail } from '../../helpers/write-trail.ts';

const LENGTH = 2 ** 20 + 512 * 3;

async function change({ backend }: Opened, model: Buffer, next: () => number): Promise<void> {
  const length = 1 + Math.floor(next() ** 3 * 200_000);
  const offset = Math.floor(next() * (model.length - length));
  const kind = next();
  const value = kind < 0.7 ? 1 + Math.floor(next() * 255) : 0;
  model.fill(value, offset, offset + length);
  if (value !== 0) await backend.write(offset, length, bufferOf(Buffer.alloc(length, value)), 0);
  else if (kind < 0.85) await backend.writeZeroes(offset, length, MAY_UNMAP);
  else await backend.writeZeroes(offset, length);
}

/** What an image's snapshot holds, as qemu-img sees it. */
function snapshotContents(path: string, name: string): Buffer {
  qemuImg('convert', '-U', '-l', `snapshot.name=${name}`, '-O', 'raw', path, `${path}.raw`);
  return readFileSync(`${path}.raw`);
}

const layouts = [
  'compat=0.10,cluster_size=4096',
  'cluster_size=512,refcount_bits=64',
  'cluster_size=4096,refcount_bits=4',
  'extended_l2=on,cluster_size=16384',
  'preallocation=metadata',
];

describe.skipIf(noQemuImg !== undefined)('internal snapshots', () => {
  it.each(layouts.map((options, seed) => ({ options, seed })))(
    'between random writes, with $options',
    async ({ options, seed }) => {
      const path = createImage({ path: `${scratch()}/image`, size: LENGTH, options });
      const next = random(seed + 100);
      const opened = await openImage(path, seed % 2 === 0 ? {} : { 'l2-cache-size': 4096 });
      const model = Buffer.alloc(LENGTH);
      const kept = new Map<string, Buffer>();
      for (let round = 0; round < 12; round++) {
        for (let each = 0; each < 4; each++) await change(opened, model, next);
        const [oldest] = kept.keys();
        if (oldest !== undefined && next() < 0.4) {
          await drop(opened, oldest);
          kept.delete(oldest);
        } else {
          await take(opened, `s${round}`);
          kept.set(`s${round}`, Buffer.from(model));
        }
        if (round === 6) {
          await opened.backend.flush();
          copyFileSync(path, `${path}.copy`);
          expect(checkImage(`${path}.copy`)).toMatchObject({ status: 0 });
        }
      }
      expect((await contents(opened.backend)).equals(model)).toBe(true);
      await opened.close();
      expect(checkImage(path)).toMatchObject({ status: 0 });
      expect(contentsByQemu(path).equals(model)).toBe(true);
      for (const [name, content] of kept) {
        expect(snapshotContents(path, name).equals(content), name).toBe(true);
      }
    },
  );

  it('are handed to and fro between here and qemu-img', async () => {
    const dir = scratch();
    const path = `${dir}/image`;
    const content = someContent(3, LENGTH);
    const raw = rawFile(`${dir}/raw`, content);
    qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4096', raw, path);
    qemuImg('snapshot', '-c', 'theirs', path);
    const model = Buffer.from(content);
    const next = random(5);
    let opened = await openImage(path);
    for (let each = 0; each < 10; each++) await change(opened, model, next);
    await take(opened, 'ours');
    const ours = Buffer.from(model);
    for (let each = 0; each < 10; each++) await change(opened, model, next);
    await drop(opened, 'theirs');
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(model)).toBe(true);
    expect(qemuImg('snapshot', '-l', path)).toMatch(/^2 +ours +0 B/m);
    qemuImg('snapshot', '-a', 'ours', path);
    expect(checkImage(path)).toMatchObject({ status: 0 });
    opened = await openImage(path);
    expect((await contents(opened.backend)).equals(ours)).toBe(true);
    await drop(opened, 'ours');
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(ours)).toBe(true);
  });

  it('need refcounts that can count them', async () => {
    const path = createImage({
      path: `${scratch()}/image`,
      size: LENGTH,
      options: 'refcount_bits=1,cluster_size=4096',
    });
    const opened = await openImage(path);
    const model = Buffer.alloc(LENGTH);
    await opened.backend.write(0, 4, bufferOf(Buffer.from('data')), 0);
    model.write('data');
    await expect(take(opened, 'one')).rejects.toThrow(
      "Failed to create snapshot 'one' on device 'image': Invalid argument",
    );
    await change(opened, model, random(1));
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
    expect(contentsByQemu(path).equals(model)).toBe(true);
  });

  it('take only so much of the file, however often they are taken and deleted', async () => {
    const path = createImage({ path: `${scratch()}/image`, size: LENGTH });
    const opened = await openImage(path);
    await opened.backend.write(0, LENGTH, bufferOf(Buffer.alloc(LENGTH, 7)), 0);
    await take(opened, 'first');
    const early = statSync(path).size;
    for (let round = 0; round < 20; round++) {
      await take(opened, 'again');
      await drop(opened, 'again');
    }
    expect(statSync(path).size).toBeLessThan(2 * early);
    await opened.close();
    expect(checkImage(path)).toMatchObject({ status: 0 });
  });

  it.each(['cluster_size=4096', 'extended_l2=on'])(
    'leave a sound image wherever writing ends, with %s',
    async (options) => {
      const dir = scratch();
      const path = createImage({ path: `${dir}/image`, size: LENGTH, options });
      const trail = new WriteTrail();
      const opened = await openImage(path, {}, trail.drivers);
      const model = Buffer.alloc(LENGTH);
      const next = random(21);
      for (let each = 0; each < 8; each++) await change(opened, model, next);
      await take(opened, 'first');
      for (let each = 0; each < 4; each++) await change(opened, model, next);
      await opened.backend.flush();
      const before = readFileSync(path);
      trail.begin();
      await take(opened, 'second');
      const taken = trail.length;
      await drop(opened, 'first');
      await drop(opened, 'second');
      expect(trail.length).toBeGreaterThan(taken + 10);
      let count = 0;
      for (const { bytes } of trail.states(before, random(22))) {
        writeFileSync(`${dir}/state`, bytes);
        const check = checkImage(`${dir}/state`);
        expect([0, 3], check.text).toContain(check.status);
        if (count++ % 3 === 0) expect(contentsByQemu(`${dir}/state`).equals(model)).toBe(true);
      }
    },
  );
});
