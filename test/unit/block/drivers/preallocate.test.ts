import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { scratch } from './open-node.ts';

const MIB = 1024 * 1024;
const buffer = allocate(64 * 1024);
const exactly = { exact: true, prealloc: 'off', flags: 0 } as const;

interface Disk {
  readonly graph: BlockGraph;
  readonly backend: BlockBackend;
  /** Of the file, in bytes. */
  readonly size: () => number;
}

async function disk(length = 4096): Promise<Disk> {
  const filename = join(scratch(), 'a.img');
  writeFileSync(filename, Buffer.alloc(length, 1));
  const graph = testGraph();
  const node = await graph.add({
    driver: 'preallocate',
    'node-name': 'top',
    'prealloc-size': 2 * MIB,
    file: { driver: 'file', filename },
  });
  const backend = graph.backend(node, {
    perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
    shared: PERM_ALL,
  });
  return { graph, backend, size: () => statSync(filename).size };
}

async function bytesOf(backend: BlockBackend, offset: number, length: number): Promise<Buffer> {
  const memory = allocate(length);
  await backend.read(offset, length, memory, 0);
  return memory.bytes;
}

describe('preallocate', () => {
  it('allocates behind a write beyond the end, shows the end of the data, and cuts off at last', async () => {
    const { backend, size } = await disk();
    buffer.bytes.fill(5);
    await backend.node.driver.write?.(backend.node, 4096, 65_536, buffer, 0, 0);
    expect(size()).toBe(3 * MIB);
    expect(backend.length).toBe(4096 + 65_536);
    expect((await bytesOf(backend, 4096, 65_536)).every((byte) => byte === 5)).toBe(true);
    await backend.release();
    expect(size()).toBe(4096 + 65_536);
  });

  it('leaves writes within the file alone', async () => {
    const { backend, size } = await disk();
    await backend.write(0, 4096, buffer, 0);
    expect(size()).toBe(4096);
    await backend.release();
    expect(size()).toBe(4096);
  });

  it('keeps writes that grow the file at the same time', async () => {
    const { backend, size } = await disk(0);
    const { node } = backend;
    const writes = Array.from({ length: 24 }, async (_, index) => {
      const data = allocate(4096);
      data.bytes.fill(index + 1);
      await node.driver.write?.(node, (23 - index) * 4096, 4096, data, 0, 0);
    });
    await Promise.all(writes);
    for (let index = 0; index < 24; index++) {
      const bytes = await bytesOf(backend, (23 - index) * 4096, 4096);
      expect(bytes.every((byte) => byte === index + 1)).toBe(true);
    }
    await backend.release();
    expect(size()).toBe(24 * 4096);
  });

  it('writes zeroes beyond the end by allocating', async () => {
    const { backend, size } = await disk();
    const { node } = backend;
    await node.driver.writeZeroes?.(node, 8192, 4096, 0);
    expect(backend.length).toBe(12_288);
    expect((await bytesOf(backend, 4096, 8192)).every((byte) => byte === 0)).toBe(true);
    await backend.release();
    expect(size()).toBe(12_288);
  });

  it('makes zeroes of data that were written over zeroes beyond the end', async () => {
    const { backend } = await disk();
    const { node } = backend;
    buffer.bytes.fill(5);
    await node.driver.writeZeroes?.(node, 4096, 8192, 0);
    await node.driver.write?.(node, 4096, 4096, buffer, 0, 0);
    await node.driver.writeZeroes?.(node, 4096, 16_384, 0);
    expect((await bytesOf(backend, 4096, 16_384)).every((byte) => byte === 0)).toBe(true);
    await backend.release();
  });

  it('resizes without what it allocated', async () => {
    const { backend, size } = await disk();
    await backend.node.driver.write?.(backend.node, 4096, 4096, buffer, 0, 0);
    await backend.truncate(16_384, exactly);
    expect([size(), backend.length]).toEqual([16_384, 16_384]);
    await backend.node.driver.write?.(backend.node, 16_384, 4096, buffer, 0, 0);
    await backend.truncate(64 * 1024, { ...exactly, prealloc: 'falloc' });
    expect(backend.length).toBe(64 * 1024);
    expect(size()).toBeGreaterThan(64 * 1024);
    await backend.truncate(512, exactly);
    expect([size(), backend.length]).toEqual([512, 512]);
  });

  it('cuts off when its user may not resize any more', async () => {
    const { graph, backend, size } = await disk();
    await backend.node.driver.write?.(backend.node, 4096, 4096, buffer, 0, 0);
    expect(size()).toBe(3 * MIB);
    backend.setPermissions(PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL);
    await graph.drain();
    expect([size(), backend.length]).toEqual([8192, 8192]);
    backend.setPermissions(PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE, PERM_ALL);
    await backend.node.driver.write?.(backend.node, 8192, 4096, buffer, 0, 0);
    expect(size()).toBe(3 * MIB);
    await graph.remove('top').catch(() => {});
    await backend.release();
    expect(size()).toBe(12_288);
  });
});
