// Images that qemu-img made, read by us.

import { describe, expect, it } from 'vitest';
import { IoError } from '../../../src/base/errors.ts';
import {
  BLOCK_ALLOCATED,
  BLOCK_DATA,
  BLOCK_OFFSET_VALID,
  BLOCK_ZERO,
} from '../../../src/block/block-driver.ts';
import { allocationDepth, blockStatus } from '../../../src/block/block-status.ts';
import { blockDeviceInfo } from '../../../src/block/query.ts';
import { type Opened, someContent } from '../../helpers/qcow2-disk.ts';
import {
  contents,
  createImage,
  type MapEntry,
  mapByQemu,
  noQemuImg,
  openImage,
  qemuImg,
  rawFile,
  scratch,
} from '../../helpers/qcow2-images.ts';

const LENGTH = 3 * 2 ** 20 + 512 * 7;

const layouts = [
  'compat=0.10',
  'compat=1.1',
  'cluster_size=512',
  'cluster_size=4096,refcount_bits=1',
  'cluster_size=2M,refcount_bits=64',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16384',
  'refcount_bits=2',
];

describe.skipIf(noQemuImg !== undefined)('read of images that qemu-img made', () => {
  it.each(layouts)('with %s', async (options) => {
    const dir = scratch();
    const content = someContent(1, LENGTH);
    const raw = rawFile(`${dir}/raw`, content);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, `${dir}/image`);
    const { backend } = await openImage(`${dir}/image`, { 'read-only': true });
    expect((await contents(backend)).equals(content)).toBe(true);
  });

  it.each(['cluster_size=4096', 'cluster_size=65536', 'cluster_size=2M', 'compression_type=zstd'])(
    'compressed, with %s',
    async (options) => {
      const dir = scratch();
      const content = someContent(2, LENGTH);
      const raw = rawFile(`${dir}/raw`, content);
      qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, `${dir}/image`);
      const { backend } = await openImage(`${dir}/image`, { 'read-only': true });
      expect((await contents(backend)).equals(content)).toBe(true);
    },
  );

  it('with an external data file that the header names', async () => {
    const dir = scratch();
    const content = someContent(3, LENGTH);
    const raw = rawFile(`${dir}/raw`, content);
    const options = `data_file=${dir}/data,data_file_raw=on`;
    qemuImg('convert', '-n', '-f', 'raw', '-O', 'qcow2', raw, made(`${dir}/image`, options));
    const { backend } = await openImage(`${dir}/image`, { 'read-only': true });
    expect((await contents(backend)).equals(content)).toBe(true);
  });

  it('with caches that hold two tables', async () => {
    const dir = scratch();
    const content = someContent(4, LENGTH);
    const raw = rawFile(`${dir}/raw`, content);
    qemuImg('convert', '-O', 'qcow2', '-o', 'cluster_size=512', raw, `${dir}/image`);
    const { backend } = await openImage(`${dir}/image`, {
      'read-only': true,
      'l2-cache-size': 1024,
    });
    expect((await contents(backend)).equals(content)).toBe(true);
  });
});

describe.skipIf(noQemuImg !== undefined)('backing files', () => {
  it('are found through the header, seen from where the image is', async () => {
    const { dir, content } = chain();
    const { backend, graph } = await openImage(`${dir}/top`, { 'read-only': true });
    expect((await contents(backend)).equals(content)).toBe(true);
    const info = blockDeviceInfo(graph.find(undefined, 'image'), { flat: false });
    expect(info).toMatchObject({
      file: `${dir}/top`,
      backing_file: `${dir}/middle`,
      backing_file_depth: 2,
      image: {
        format: 'qcow2',
        'backing-filename': 'middle',
        'full-backing-filename': `${dir}/middle`,
        'backing-filename-format': 'qcow2',
        'backing-image': {
          filename: `${dir}/middle`,
          'backing-image': { filename: `${dir}/base` },
        },
      },
    });
  });

  it('are left out with null, and zeroes are read', async () => {
    const { dir } = chain();
    const { backend, graph } = await openImage(`${dir}/top`, { 'read-only': true, backing: null });
    expect((await contents(backend)).every((byte) => byte === 0)).toBe(true);
    expect(blockDeviceInfo(graph.find(undefined, 'image'), { flat: false }).file).toBe(
      `json:{"backing": null, "driver": "qcow2", "file": {"driver": "file", "filename": "${dir}/top"}}`,
    );
  });

  it('may be given as options', async () => {
    const { dir, content } = chain();
    const { backend } = await openImage(`${dir}/top`, {
      'read-only': true,
      backing: { driver: 'raw', file: { driver: 'file', filename: `${dir}/raw` } },
    });
    expect((await contents(backend)).equals(content)).toBe(true);
  });

  it('that are missing are named', async () => {
    const dir = scratch();
    qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'gone', '-F', 'raw', `${dir}/image`, '1M');
    await expect(openImage(`${dir}/image`, { 'read-only': true })).rejects.toThrow(
      `Could not open backing file: Could not open '${dir}/gone': No such file or directory`,
    );
  });

  it('that are the image itself end somewhere', async () => {
    const dir = scratch();
    const path = `${dir}/image`;
    createImage({ path });
    qemuImg('rebase', '-u', '-b', path, '-F', 'qcow2', path);
    await expect(openImage(path, { 'read-only': true })).rejects.toThrow('Too many nodes');
  });
});

describe.skipIf(noQemuImg !== undefined)('block status', () => {
  it.each(['compat=1.1', 'compat=0.10', 'extended_l2=on', 'cluster_size=1024'])(
    'is what qemu-img map shows, with %s',
    async (options) => {
      const dir = scratch();
      const raw = rawFile(`${dir}/raw`, someContent(5, LENGTH));
      qemuImg('convert', '-O', 'qcow2', '-o', options, raw, `${dir}/image`);
      const opened = await openImage(`${dir}/image`, { 'read-only': true });
      expect(await mapByUs(opened)).toEqual(mapByQemu(`${dir}/image`));
    },
  );

  it('goes through backing files', async () => {
    const { dir } = chain();
    const opened = await openImage(`${dir}/top`, { 'read-only': true });
    expect(await mapByUs(opened)).toEqual(mapByQemu(`${dir}/top`));
  });
});

describe.skipIf(noQemuImg !== undefined)('image information', () => {
  it('has what only qcow2 has', async () => {
    const path = createImage({
      path: `${scratch()}/image`,
      options: 'extended_l2=on,lazy_refcounts=on',
    });
    const { graph } = await openImage(path, { 'read-only': true });
    expect(blockDeviceInfo(graph.find(undefined, 'image'), { flat: true }).image).toMatchObject({
      'cluster-size': 65536,
      'dirty-flag': false,
      'virtual-size': 2 ** 20,
      'format-specific': {
        type: 'qcow2',
        data: {
          compat: '1.1',
          'compression-type': 'zlib',
          'lazy-refcounts': true,
          'refcount-bits': 16,
          corrupt: false,
          'extended-l2': true,
        },
      },
    });
  });

  it('a read of a table that cannot be is an error, not a crash', async () => {
    const dir = scratch();
    const path = createImage({ path: `${dir}/image` });
    const { readFileSync, writeFileSync } = await import('node:fs');
    const bytes = readFileSync(path);
    const l1 = Number(bytes.readBigUInt64BE(40));
    bytes.writeBigUInt64BE(0x8000000000012345n, l1);
    writeFileSync(path, bytes);
    const { backend } = await openImage(path, { 'read-only': true });
    await expect(contents(backend)).rejects.toBeInstanceOf(IoError);
  });
});

function made(path: string, options: string): string {
  return createImage({ path, size: LENGTH, options });
}

/** Raw content in a base, two images above it that hold nothing. */
function chain(): { dir: string; content: Buffer } {
  const dir = scratch();
  const content = someContent(6, LENGTH);
  const raw = rawFile(`${dir}/raw`, content);
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, `${dir}/base`);
  for (const [name, below] of [
    ['middle', 'base'],
    ['top', 'middle'],
  ] as const) {
    qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', `${dir}/${name}`);
  }
  return { dir, content };
}

/** The disk's map in qemu-img's words. */
async function mapByUs({ graph, backend }: Opened): Promise<MapEntry[]> {
  const node = graph.find(undefined, 'image');
  const map: MapEntry[] = [];
  for (let start = 0; start < backend.length; ) {
    const depth = await allocationDepth(node, start, backend.length - start);
    const found = await blockStatus(node, start, depth.length);
    const has = (bit: number) => (found.status & bit) !== 0;
    const entry = {
      start,
      length: found.length,
      depth: Math.max(0, depth.depth - 1),
      present: has(BLOCK_ALLOCATED) && depth.depth > 0,
      zero: has(BLOCK_ZERO),
      data: has(BLOCK_DATA),
      ...(has(BLOCK_OFFSET_VALID) && found.hostOffset !== undefined
        ? { offset: found.hostOffset }
        : {}),
    };
    start += found.length;
    const last = map.at(-1);
    if (last !== undefined && joins(last, entry)) {
      map[map.length - 1] = { ...last, length: last.length + entry.length };
    } else {
      map.push(entry);
    }
  }
  return map;
}

function joins(one: MapEntry, next: MapEntry): boolean {
  return (
    one.depth === next.depth &&
    one.present === next.present &&
    one.zero === next.zero &&
    one.data === next.data &&
    (one.offset === undefined ? next.offset === undefined : next.offset === one.offset + one.length)
  );
}
