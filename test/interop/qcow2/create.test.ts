// Images made here beside those that qemu-img makes from the same options: equal to the byte where the layout leaves no choice.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockdevCreateOptionsQcow2 } from '../../../src/qapi/generated/types.ts';
import { checkImage, noQemuImg, qemuImg, rawFile, scratch } from '../../helpers/qcow2-images.ts';
import { testGraph } from '../../unit/block/graph-fixture.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

type Options = Omit<BlockdevCreateOptionsQcow2, 'file' | 'data-file'> & { 'data-file'?: true };

const equalToTheByte: readonly Options[] = [
  { size: 0 },
  { size: 512 },
  { size: MIB },
  { size: 64 * MIB * MIB },
  { size: 3 * MIB + 512, 'cluster-size': 512 },
  { size: 100 * MIB, 'cluster-size': 2 * MIB },
  { size: MIB, version: 'v2' },
  { size: MIB, version: 'v3', 'lazy-refcounts': true },
  { size: MIB, 'compression-type': 'zstd' },
  { size: MIB, 'extended-l2': true },
  { size: MIB, 'refcount-bits': 1 },
  { size: MIB, 'refcount-bits': 64, 'cluster-size': 512 },
  { size: MIB, 'backing-file': 'base', 'backing-fmt': 'raw' },
  { size: MIB, 'backing-file': 'base', 'backing-fmt': 'raw', version: 'v2', 'cluster-size': 4096 },
  { size: 10 * MIB, preallocation: 'metadata' },
  { size: 3 * MIB + 512, preallocation: 'metadata' },
  { size: 3 * MIB, preallocation: 'metadata', 'cluster-size': 4096 },
  { size: 3 * MIB, preallocation: 'metadata', 'extended-l2': true },
  {
    size: 3 * MIB,
    preallocation: 'metadata',
    'extended-l2': true,
    'backing-file': 'base',
    'backing-fmt': 'raw',
  },
  { size: 3 * MIB, 'data-file': true },
  { size: 3 * MIB + 512, 'data-file': true, 'data-file-raw': true },
  { size: 3 * MIB, 'data-file': true, preallocation: 'metadata' },
  { size: 3 * MIB, 'data-file': true, preallocation: 'falloc' },
];

const preallocated: readonly Options[] = [
  { size: 10 * MIB, preallocation: 'falloc' },
  { size: 10 * MIB, preallocation: 'full' },
  { size: 3 * MIB, preallocation: 'falloc', 'cluster-size': 512, 'refcount-bits': 64 },
  { size: 3 * MIB, preallocation: 'full', 'extended-l2': true },
  { size: 3 * MIB, preallocation: 'metadata', 'cluster-size': 512, 'refcount-bits': 64 },
];

describe.skipIf(noQemuImg !== undefined)('blockdev-create of qcow2 and qemu-img create', () => {
  it.each(equalToTheByte.map((options) => [JSON.stringify(options), options] as const))(
    'agree about %s',
    async (_, options) => {
      const { dir, theirs } = await both(options);
      expect(information(dir)).toEqual(theirs.information);
      const ours = readFileSync(`${dir}/image`);
      expect(ours.length).toBe(theirs.image.length);
      expect(ours.equals(theirs.image)).toBe(true);
      if (options['data-file']) expect(statSync(`${dir}/data`).size).toBe(theirs.dataLength);
    },
  );

  it.each(preallocated.map((options) => [JSON.stringify(options), options] as const))(
    'reserve the same for %s',
    async (_, options) => {
      const { dir, theirs } = await both(options);
      expect(information(dir)).toEqual(theirs.information);
      writeFileSync(`${dir}/theirs`, theirs.image);
      expect(qemuImg('compare', `${dir}/image`, `${dir}/theirs`)).toContain('identical');
      if (options.preallocation === 'metadata') return;
      const { size, blocks } = statSync(`${dir}/image`);
      // All of it has storage.
      expect(blocks * 512).toBeGreaterThanOrEqual(options.size);
      expect(size).toBeLessThan(options.size * 1.2 + MIB);
    },
  );
});

interface Theirs {
  readonly information: unknown;
  readonly image: Buffer;
  readonly dataLength: number | undefined;
}

/** The same image made by qemu-img, and then by ours in its place. */
async function both(options: Options): Promise<{ dir: string; theirs: Theirs }> {
  const dir = scratch();
  rawFile(`${dir}/base`, Buffer.alloc(4096, 7));
  createByQemu(dir, options);
  const theirs = {
    information: information(dir),
    image: readFileSync(`${dir}/image`),
    dataLength: statSync(`${dir}/data`, { throwIfNoEntry: false })?.size,
  };
  await create(dir, options);
  const check = checkImage(`${dir}/image`);
  expect(check.status, check.text).toBe(0);
  return { dir, theirs };
}

async function create(dir: string, options: Options): Promise<void> {
  const { 'data-file': hasDataFile, ...rest } = options;
  rawFile(`${dir}/image`, Buffer.alloc(0));
  if (hasDataFile) rawFile(`${dir}/data`, Buffer.alloc(0));
  const graph = testGraph();
  // Nobody pulls the plug here.
  const cache = { 'no-flush': true };
  const file = { driver: 'file', filename: `${dir}/image`, cache } as const;
  await graph.add({ ...file, 'node-name': 'file' });
  const dataFile = { driver: 'file', filename: `${dir}/data` } as const;
  await graph.imageMaker({
    driver: 'qcow2',
    file: 'file',
    ...(hasDataFile ? { 'data-file': dataFile } : {}),
    ...rest,
  })();
  expect([...graph.nodes()].map((node) => node.nodeName)).toEqual(['file']);
  await graph.close();
}

function createByQemu(dir: string, options: Options): void {
  const { size, version, 'data-file': hasDataFile, 'backing-file': backing, ...rest } = options;
  const named = Object.entries(rest).map(([name, value]) => {
    const shown = value === true ? 'on' : value;
    return `${name === 'data-file-raw' ? 'data_file_raw' : name.replaceAll('-', '_')}=${shown}`;
  });
  if (version === 'v2') named.push('compat=0.10');
  if (hasDataFile) named.push(`data_file=${dir}/data`);
  if (backing !== undefined) named.push(`backing_file=${backing}`);
  const list = named.length === 0 ? [] : ['-o', named.join(',')];
  qemuImg('create', '-q', '-f', 'qcow2', ...list, `${dir}/image`, String(size));
}

function information(dir: string): unknown {
  const all = JSON.parse(qemuImg('info', '--output=json', `${dir}/image`)) as Record<
    string,
    unknown
  >;
  const { 'actual-size': _, ...rest } = all;
  return rest;
}
