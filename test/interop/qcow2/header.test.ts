// The first cluster, written anew: what qemu-img and others put there stays.

import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rewriteHeader } from '../../../src/block/drivers/qcow2/header-rewrite.ts';
import type { Qcow2Image } from '../../../src/block/drivers/qcow2/image.ts';
import { createImage, noQemuImg, openImage, rawFile, scratch } from '../../helpers/qcow2-images.ts';

describe.skipIf(noQemuImg !== undefined)('rewriteHeader', () => {
  it.each([
    'cluster_size=65536',
    'cluster_size=4096,lazy_refcounts=on',
    'cluster_size=512',
    'compat=0.10',
    'compat=0.10,backing_file=base,backing_fmt=raw',
    'backing_file=base,backing_fmt=raw,compression_type=zstd,extended_l2=on',
    'data_file=DIR/data,data_file_raw=on',
  ])('writes the bytes that were there, with %s', async (options) => {
    const dir = scratch();
    rawFile(`${dir}/base`, Buffer.alloc(4096));
    const path = createImage({ path: `${dir}/image`, options: options.replace('DIR', dir) });
    const before = firstCluster(path);
    await rewritten(path);
    expect(firstCluster(path).equals(before)).toBe(true);
  });

  it('keeps fields and extensions that nobody knows', async () => {
    const path = createImage({ path: `${scratch()}/image` });
    const before = firstCluster(path);
    const header = 120;
    before.copy(before, header, 112, 2048);
    before.write('unknown!', 112, 'latin1');
    before.writeUInt32BE(header, 100);
    const end = endOfExtensions(before, header);
    before.writeUInt32BE(0x12345678, end);
    before.writeUInt32BE(5, end + 4);
    before.write('hello', end + 8, 'latin1');
    before.fill(0, end + 16, end + 24);
    const fd = openSync(path, 'r+');
    writeSync(fd, before, 0, before.length, 0);
    closeSync(fd);
    await rewritten(path);
    expect(firstCluster(path).equals(before)).toBe(true);
  });

  it('says that it does not fit, and writes nothing', async () => {
    const path = createImage({ path: `${scratch()}/image`, options: 'cluster_size=512' });
    const before = readFileSync(path);
    const opened = await openImage(path);
    const image = opened.graph.find(undefined, 'image').state as Qcow2Image;
    image.backingFilename = 'x'.repeat(500);
    await expect(rewriteHeader(image)).rejects.toThrow('No space left on device');
    await opened.close();
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});

async function rewritten(path: string): Promise<void> {
  const opened = await openImage(path);
  await rewriteHeader(opened.graph.find(undefined, 'image').state as Qcow2Image);
  await opened.close();
}

function firstCluster(path: string): Buffer {
  const bytes = Buffer.alloc(65536);
  const fd = openSync(path, 'r');
  const length = readSync(fd, bytes, 0, bytes.length, 0);
  closeSync(fd);
  return bytes.subarray(0, Math.min(length, 2 ** bytes.readUInt32BE(20)));
}

function endOfExtensions(bytes: Buffer, start: number): number {
  let at = start;
  while (bytes.readUInt32BE(at) !== 0) at += 8 + Math.ceil(bytes.readUInt32BE(at + 4) / 8) * 8;
  return at;
}
