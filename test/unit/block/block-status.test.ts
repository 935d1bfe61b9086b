import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../src/block/block-backend.ts';
import {
  BLOCK_ALLOCATED,
  BLOCK_DATA,
  BLOCK_EOF,
  BLOCK_OFFSET_VALID,
  BLOCK_RAW,
  BLOCK_ZERO,
  type BlockDriver,
  CHILD_COW,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
} from '../../../src/block/block-driver.ts';
import { nodeStatus } from '../../../src/block/block-status.ts';
import { testGraph } from './graph-fixture.ts';
import { later, memoryDisk } from './memory-driver.ts';

async function extents(backend: BlockBackend, offset: number, length: number): Promise<string[]> {
  const found: string[] = [];
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const extent = await backend.blockStatus(at, end - at);
    const bits = [
      [BLOCK_DATA, 'data'],
      [BLOCK_ZERO, 'zero'],
      [BLOCK_ALLOCATED, 'allocated'],
      [BLOCK_EOF, 'eof'],
    ] as const;
    const names = bits.filter(([bit]) => (extent.status & bit) !== 0).map(([, name]) => name);
    found.push(`${at}+${extent.length} ${names.join(' ')}`);
    if (extent.length === 0) break;
    at += extent.length;
  }
  return found;
}

describe('blockStatus', () => {
  it('goes through raw windows to the node that knows, and cuts at the window', async () => {
    const disk = memoryDisk({ size: 8192 });
    disk.bytes.fill(1, 1024, 2048);
    const graph = testGraph(disk.driver);
    const node = await graph.add({
      driver: 'raw',
      'node-name': 'r',
      offset: 512,
      size: 2048,
      file: { driver: 'raw', file: { driver: 'null-aio', 'node-name': 'disk' } },
    });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(await extents(backend, 0, 4096)).toEqual([
      '0+512 zero allocated',
      '512+1024 data allocated',
      '1536+512 zero allocated eof',
      '2048+0 eof',
    ]);
    const found = await backend.blockStatus(600, 100);
    expect(found.file?.nodeName).toBe('disk');
    expect(found.hostOffset).toBe(1112);
  });

  it('asks in the alignment of the node and cuts what it gets', async () => {
    const disk = memoryDisk({ size: 8192, limits: { requestAlignment: 4096 } });
    disk.bytes.fill(1, 4096);
    const graph = testGraph(disk.driver);
    const node = await graph.add({ driver: 'null-aio', 'node-name': 'd' });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(await extents(backend, 100, 5000)).toEqual([
      '100+3996 zero allocated',
      '4096+1004 data allocated',
    ]);
  });

  it('is all data where the driver cannot tell', async () => {
    const { driver } = memoryDisk({ size: 4096, tellsStatus: false });
    const graph = testGraph(driver);
    const node = await graph.add({ driver: 'null-aio', 'node-name': 'd' });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(await extents(backend, 512, 8192)).toEqual([
      '512+3584 data allocated eof',
      '4096+0 eof',
    ]);
  });

  it('looks into backing files where nothing is allocated, zeroes beyond their end', async () => {
    const base = memoryDisk({ size: 2048 });
    base.bytes.fill(3, 0, 512);
    // A format that has only its third sector allocated.
    const overlay: BlockDriver = {
      name: 'host_device',
      kind: 'format',
      strongOptions: [],
      supportsBacking: true,
      open: (_node, _options, context) => context.openChild('backing', 'base', CHILD_COW),
      length: () => 4096,
      read() {},
      blockStatus: (_node, offset, length) =>
        offset >= 1024 && offset < 1536
          ? { status: BLOCK_DATA, length: Math.min(length, 1536 - offset) }
          : { status: 0, length: offset < 1024 ? Math.min(length, 1024 - offset) : length },
    };
    const graph = testGraph(base.driver, { drivers: { host_device: overlay } });
    await graph.add({ driver: 'null-aio', 'node-name': 'base' });
    const top = await graph.add({ driver: 'host_device', 'node-name': 'top', filename: 'x' });
    const backend = graph.backend(top, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(await extents(backend, 0, 4096)).toEqual([
      '0+512 data allocated',
      '512+512 zero allocated',
      '1024+512 data allocated',
      '1536+512 zero allocated',
      '2048+2048 zero allocated eof',
    ]);
    const own = await nodeStatus(top, { offset: 0, length: 4096, wantZero: true });
    expect(own.status & BLOCK_ALLOCATED).toBe(0);
    const depths: string[] = [];
    for (let at = 0; at < 4096; ) {
      const { depth, length } = await backend.allocationDepth(at, 4096 - at);
      depths.push(`${at}+${length} ${depth}`);
      at += length;
    }
    // Zeroes beyond the end of a backing file count as its own.
    expect(depths).toEqual(['0+512 2', '512+512 2', '1024+512 1', '1536+512 2', '2048+2048 2']);
    expect(await backend.allocationDepth(4096, 512)).toEqual({ depth: 0, length: 0 });
  });

  it('finds zeroes in a filter where its child has become shorter', async () => {
    const disk = memoryDisk({ size: 4096, capacity: 4096, tellsStatus: false });
    const target = memoryDisk({ size: 4096 });
    const graph = testGraph(disk.driver, { drivers: { 'null-co': target.driver } });
    const child = await graph.add({ driver: 'null-aio', 'node-name': 'disk' });
    const nodes = [
      await graph.add({ driver: 'blkdebug', 'node-name': 'b', image: 'disk' }),
      await graph.add({
        driver: 'blklogwrites',
        'node-name': 'l',
        file: 'disk',
        log: { driver: 'null-co' },
      }),
      await graph.add({
        driver: 'copy-before-write',
        'node-name': 'c',
        file: 'disk',
        target: { driver: 'null-co' },
      }),
    ];
    const owner = graph.backend(child, { perm: PERM_RESIZE, shared: PERM_ALL });
    await owner.truncate(1024, { exact: true, prealloc: 'off', flags: 0 });
    await owner.release();
    nodes.push(await graph.add({ driver: 'snapshot-access', 'node-name': 's', file: 'c' }));
    for (const node of nodes) {
      const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
      expect(await extents(backend, 0, 4096)).toEqual([
        '0+1024 data allocated',
        '1024+3072 zero allocated eof',
      ]);
      await backend.release();
    }
  });

  it('waits for drivers that answer later', async () => {
    const disk = memoryDisk({ size: 4096 });
    const slow: BlockDriver = {
      ...disk.driver,
      blockStatus: (node, offset, length) =>
        later(3).then(() => ({
          status: BLOCK_ZERO | BLOCK_OFFSET_VALID,
          length,
          hostOffset: offset,
          file: node,
        })),
    };
    const graph = testGraph(slow);
    const node = await graph.add({ driver: 'raw', 'node-name': 'r', file: { driver: 'null-aio' } });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(backend.blockStatus(0, 512)).toBeInstanceOf(Promise);
    expect(await extents(backend, 0, 4096)).toEqual(['0+4096 zero allocated eof']);
  });

  it('never sees BLOCK_RAW in an answer', async () => {
    const graph = testGraph();
    const node = await graph.add({ driver: 'raw', 'node-name': 'r', file: { driver: 'null-co' } });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    const { status } = await backend.blockStatus(0, 512);
    expect(status & BLOCK_RAW).toBe(0);
    // null-co knows neither data nor zeroes without read-zeroes.
    expect(status).toBe(BLOCK_OFFSET_VALID);
  });
});
