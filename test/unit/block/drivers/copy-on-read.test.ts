import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { scratch } from './open-node.ts';

const KIB = 1024;
const CLUSTER = 64 * KIB;
const SIZE = 1024 * KIB;

interface Chain {
  readonly graph: BlockGraph;
  readonly backend: BlockBackend;
}

/** top (qcow2) over mid (qcow2, its second cluster written) over base (raw, all bytes 7), and the filter over top. */
async function chain(more: object = {}): Promise<Chain> {
  const folder = scratch();
  const graph = testGraph();
  const base = join(folder, 'base.img');
  writeFileSync(base, Buffer.alloc(SIZE, 7).fill(0, 8 * CLUSTER));
  await graph.add({ driver: 'raw', 'node-name': 'base', file: { driver: 'file', filename: base } });
  for (const [name, backing] of [
    ['mid', 'base'],
    ['top', 'mid'],
  ] as const) {
    const filename = join(folder, name);
    writeFileSync(filename, '');
    const file = await graph.add({ driver: 'file', 'node-name': `${name}-file`, filename });
    await graph.imageMaker({ driver: 'qcow2', file: file.nodeName, size: SIZE })();
    await graph.add({ driver: 'qcow2', 'node-name': name, file: file.nodeName, backing });
    if (name === 'mid') await writeCluster(graph, name, CLUSTER, 9);
  }
  const top = await graph.add({
    driver: 'copy-on-read',
    'node-name': 'cor',
    file: 'top',
    ...more,
  });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  return { graph, backend: graph.backend(top, { perm, shared: PERM_ALL }) };
}

async function writeCluster(graph: BlockGraph, name: string, offset: number, byte: number) {
  const node = graph.find(name, name);
  const owner = graph.backend(node, { perm: PERM_WRITE, shared: PERM_ALL });
  const data = allocate(CLUSTER);
  data.bytes.fill(byte);
  await owner.write(offset, CLUSTER, data, 0);
  await owner.release();
}

async function read(backend: BlockBackend, offset: number, length: number): Promise<Buffer> {
  const memory = allocate(length);
  await backend.read(offset, length, memory, 0);
  return memory.bytes;
}

/** By cluster: how deep below the filter it is allocated. */
async function depths({ graph }: Chain): Promise<number[]> {
  const top = graph.find('top', 'top');
  const owner = graph.backend(top, { perm: 0, shared: PERM_ALL });
  const all: number[] = [];
  for (let at = 0; at < SIZE; at += CLUSTER) {
    all.push((await owner.allocationDepth(at, CLUSTER)).depth);
  }
  await owner.release();
  return all;
}

describe('copy-on-read', () => {
  it('copies whole clusters of what is read, and nothing else', async () => {
    const made = await chain();
    expect((await depths(made)).slice(0, 4)).toEqual([3, 2, 3, 3]);
    const bytes = await read(made.backend, CLUSTER - 512, 1024);
    expect(bytes.subarray(0, 512).every((byte) => byte === 7)).toBe(true);
    expect(bytes.subarray(512).every((byte) => byte === 9)).toBe(true);
    expect((await depths(made)).slice(0, 4)).toEqual([1, 1, 3, 3]);
    expect((await read(made.backend, 0, CLUSTER)).every((byte) => byte === 7)).toBe(true);
  });

  it('copies zeroes as zeroes', async () => {
    const made = await chain();
    await read(made.backend, 8 * CLUSTER, CLUSTER);
    const { status } = await made.backend.blockStatus(8 * CLUSTER, CLUSTER);
    expect((await depths(made))[8]).toBe(1);
    expect(status & 2).toBe(2);
  });

  it('keeps what is written meanwhile', async () => {
    const made = await chain();
    const data = allocate(4096);
    data.bytes.fill(3);
    await Promise.all([
      read(made.backend, 0, 4 * CLUSTER),
      made.backend.write(4096, 4096, data, 0),
      read(made.backend, 4096, 512),
      made.backend.write(2 * CLUSTER, 4096, data, 0),
    ]);
    const bytes = await read(made.backend, 0, 3 * CLUSTER);
    expect(bytes.subarray(4096, 8192).every((byte) => byte === 3)).toBe(true);
    expect(bytes.subarray(2 * CLUSTER, 2 * CLUSTER + 4096).every((byte) => byte === 3)).toBe(true);
    expect(bytes[0]).toBe(7);
    expect(bytes[CLUSTER]).toBe(9);
  });

  it('copies from no deeper than its bottom', async () => {
    const made = await chain({ bottom: 'mid' });
    const bytes = await read(made.backend, 0, 3 * CLUSTER);
    expect([bytes[0], bytes[CLUSTER], bytes[2 * CLUSTER]]).toEqual([7, 9, 7]);
    expect((await depths(made)).slice(0, 4)).toEqual([3, 1, 3, 3]);
  });

  it('copies what is prefetched', async () => {
    const made = await chain();
    await made.backend.prefetch(2 * CLUSTER, 512);
    expect((await depths(made)).slice(0, 4)).toEqual([3, 2, 1, 3]);
  });

  it('refuses a bottom that is not below it', async () => {
    const { graph } = await chain();
    await graph.add({ driver: 'null-co', 'node-name': 'other' });
    await expect(
      graph.add({ driver: 'copy-on-read', 'node-name': 'x', file: 'cor', bottom: 'other' }),
    ).rejects.toThrow("Bottom node 'other' is not below 'x'");
  });
});
