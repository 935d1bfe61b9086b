import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../src/block/block-backend.ts';
import {
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import type { BlockNode } from '../../../src/block/block-node.ts';
import { DirtyBitmap } from '../../../src/block/dirty-bitmap.ts';
import {
  addDirtyBitmap,
  clearDirtyBitmap,
  enableDirtyBitmap,
  hashDirtyBitmap,
  mergeDirtyBitmaps,
  removeDirtyBitmap,
} from '../../../src/block/dirty-bitmap-commands.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import { ioError, later, type MemoryDisk, memoryDisk } from './memory-driver.ts';

const SIZE = 64 * 1024;
const granularities = [512, 1024, 4096, 65536] as const;

function bitmap(granularity: number, length = SIZE): DirtyBitmap {
  return new DirtyBitmap({ name: 'b', granularity, length, enabled: true });
}

/** The granules that areas touch. */
function granulesOf(
  areas: Iterable<readonly [offset: number, length: number]>,
  granularity: number,
): Set<number> {
  const granules = new Set<number>();
  for (const [offset, length] of areas) {
    for (let at = offset - (offset % granularity); at < offset + length; at += granularity) {
      granules.add(at / granularity);
    }
  }
  return granules;
}

function dirtyGranules(of: DirtyBitmap): Set<number> {
  const areas: (readonly [number, number])[] = [];
  let start = 0;
  for (;;) {
    const area = of.nextDirtyArea(start, of.length);
    if (area === undefined) return granulesOf(areas, of.granularity);
    areas.push([area.offset, area.length]);
    start = area.offset + area.length;
  }
}

const area = fc
  .tuple(fc.nat(SIZE - 1), fc.nat(SIZE))
  .map(([offset, length]) => [offset, Math.min(length, SIZE - offset)] as const)
  .filter(([, length]) => length > 0);
const areas = fc.array(area, { maxLength: 6 });

describe('DirtyBitmap', () => {
  it('is the set of granules that were touched', () => {
    fc.assert(
      fc.property(fc.constantFrom(...granularities), areas, (granularity, marked) => {
        const marks = bitmap(granularity);
        for (const [offset, length] of marked) marks.mark(offset, length);
        const expected = granulesOf(marked, granularity);
        expect(dirtyGranules(marks)).toEqual(expected);
        expect(marks.dirtyBytes).toBe(expected.size * granularity);
      }),
    );
  });

  it('finds the first dirty area, cut at both ends', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...granularities),
        areas,
        fc.nat(SIZE),
        fc.nat(SIZE + 5000),
        (granularity, marked, start, end) => {
          const marks = bitmap(granularity, SIZE - 100);
          for (const [offset, length] of marked) marks.mark(offset, length);
          const found = marks.nextDirtyArea(start, end);
          const dirty = dirtyGranules(marks);
          const isDirty = (at: number): boolean => dirty.has(Math.floor(at / granularity));
          const limit = Math.min(end, SIZE - 100);
          let first = start;
          while (first < limit && !isDirty(first)) first++;
          let last = first;
          while (last < limit && isDirty(last)) last++;
          const expected = first < limit ? { offset: first, length: last - first } : undefined;
          expect(found).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('merges others, whatever their granularity', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...granularities),
        fc.constantFrom(...granularities),
        areas,
        areas,
        (into, from, before, marked) => {
          const target = bitmap(into);
          const source = bitmap(from);
          for (const [offset, length] of before) target.mark(offset, length);
          for (const [offset, length] of marked) source.mark(offset, length);
          const sourceDirty = dirtyGranules(source);
          const expected = granulesOf(
            [...before, ...[...sourceDirty].map((at) => [at * from, from] as const)],
            into,
          );
          target.merge(source);
          expect(dirtyGranules(target)).toEqual(expected);
          expect(dirtyGranules(source)).toEqual(sourceDirty);
        },
      ),
    );
  });

  it('shares nothing with what was merged into it', () => {
    const target = bitmap(512);
    const source = bitmap(512);
    source.mark(0, 1);
    target.merge(source);
    source.mark(1024, 1);
    target.mark(4096, 1);
    expect([...dirtyGranules(target)]).toEqual([0, 8]);
    expect([...dirtyGranules(source)]).toEqual([0, 2]);
    target.merge(target);
    expect([...dirtyGranules(target)]).toEqual([0, 8]);
  });

  it('follows the length, and forgets what was cut off', () => {
    const marks = bitmap(4096);
    marks.mark(0, SIZE);
    marks.truncate(5000);
    expect(marks.dirtyBytes).toBe(8192);
    expect(marks.nextDirtyArea(0, SIZE)).toEqual({ offset: 0, length: 5000 });
    marks.truncate(SIZE);
    expect(marks.nextDirtyArea(0, SIZE)).toEqual({ offset: 0, length: 8192 });
    marks.mark(SIZE - 1, 100);
    expect(marks.dirtyBytes).toBe(12288);
  });

  it('covers a node of 2^53 bytes, and refuses more bits than the reference has', () => {
    const large = bitmap(65536, 2 ** 53 - 512);
    large.mark(0, 2 ** 53 - 512);
    expect(large.dirtyBytes).toBe(2 ** 53);
    expect(large.nextDirtyArea(2 ** 52, 2 ** 53)).toEqual({
      offset: 2 ** 52,
      length: 2 ** 52 - 512,
    });
    expect(() => bitmap(512, 2 ** 51)).toThrow(QmpError);
    expect(() => bitmap(512, 2 ** 50)).not.toThrow();
  });
});

let graph: BlockGraph = testGraph();

afterEach(async () => {
  await graph.close();
});

/** A raw node over a memory disk, and an owner's handle on it. */
async function opened(disk: MemoryDisk): Promise<{ backend: BlockBackend; raw: BlockNode }> {
  graph = testGraph(disk.driver);
  const raw = await graph.add({
    driver: 'raw',
    'node-name': 'raw',
    discard: 'unmap',
    file: { driver: 'null-aio', 'node-name': 'disk', discard: 'unmap' },
  });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  return { raw, backend: graph.backend(raw, { perm, shared: PERM_ALL }) };
}

function bitmapOf(node: string): DirtyBitmap {
  const found = graph.lookUp(node)?.dirtyBitmaps[0];
  if (found === undefined) throw new Error(`no bitmap of ${node}`);
  return found;
}

const granule = (granularity: number): object => ({ granularity });
const add = (node: string, name: string, more: object = {}): void =>
  addDirtyBitmap(graph, { node, name, ...more });

describe('writes to a node with dirty bitmaps', () => {
  const kinds = ['write', 'zero', 'discard', 'read', 'flush'] as const;
  const request = fc.record({
    kind: fc.constantFrom(...kinds),
    area,
    flags: fc.constantFrom(0, FUA, MAY_UNMAP),
  });

  it('make dirty what they touch, in the alignment of the node, whatever the timing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          alignment: fc.constantFrom(1, 512, 4096),
          granularity: fc.constantFrom(...granularities),
          canZero: fc.boolean(),
          fails: fc.boolean(),
          delay: fc.nat(3),
        }),
        fc.array(request, { maxLength: 5 }),
        async (how, requests) => {
          const disk = memoryDisk({
            size: SIZE,
            limits: { requestAlignment: how.alignment },
            canZero: how.canZero,
          });
          const { backend } = await opened(disk);
          add('raw', 'b', granule(how.granularity));
          add('disk', 'b', granule(how.granularity));
          disk.behave = ({ operation }) => {
            if (how.fails && /write|zero|discard/.test(operation)) return ioError('EIO');
            return how.delay === 0 ? undefined : later(how.delay);
          };
          await Promise.allSettled(
            requests.map(async ({ kind, area: [offset, length], flags }) => {
              const buffer = allocate(length);
              if (kind === 'write') await backend.write(offset, length, buffer, 0, flags & FUA);
              if (kind === 'zero') await backend.writeZeroes(offset, length, flags);
              if (kind === 'discard') await backend.discard(offset, length);
              if (kind === 'read') await backend.read(offset, length, buffer, 0);
              if (kind === 'flush') await backend.flush();
            }),
          );
          // What fails halfway may have left the rest alone; what it touched first is dirty all the same.
          const touched = (alignment: number) =>
            requests.flatMap(({ kind, area: [offset, length] }) => {
              if (kind === 'read' || kind === 'flush') return [];
              if (kind === 'discard') return [[offset, length] as const];
              const start = offset - (offset % alignment);
              const end = Math.ceil((offset + length) / alignment) * alignment;
              return [[start, end - start] as const];
            });
          for (const [name, node] of [
            ['raw', graph.lookUp('raw')],
            ['disk', graph.lookUp('disk')],
          ] as const) {
            const expected = granulesOf(
              touched(node?.limits.requestAlignment ?? 1),
              how.granularity,
            );
            const dirty = dirtyGranules(bitmapOf(name));
            if (!how.fails) expect(dirty).toEqual(expected);
            else for (const one of dirty) expect(expected.has(one)).toBe(true);
          }
          disk.behave = () => undefined;
          await backend.release();
          await graph.close();
        },
      ),
      { numRuns: 80 },
    );
  });

  it('count when they fail, and when they are refused as too slow', async () => {
    const disk = memoryDisk({ size: SIZE });
    const { backend } = await opened(disk);
    add('raw', 'b', granule(4096));
    disk.behave = ({ operation }) => (operation === 'write' ? ioError('EIO') : undefined);
    await expect(async () => backend.write(0, 512, allocate(512), 0)).rejects.toThrow();
    disk.behave = ({ operation }) =>
      operation === 'write' ? Promise.reject(ioError('ENOSPC')) : undefined;
    await expect(async () => backend.write(8192, 512, allocate(512), 0)).rejects.toThrow();
    await expect(async () => backend.writeZeroes(16384, 4096, NO_FALLBACK)).rejects.toThrow();
    expect([...dirtyGranules(bitmapOf('raw'))]).toEqual([0, 2, 4]);
  });

  it('are noted only by bitmaps that are enabled', async () => {
    const { backend } = await opened(memoryDisk({ size: SIZE }));
    add('raw', 'off', { disabled: true });
    await backend.write(0, 512, allocate(512), 0);
    expect(bitmapOf('raw').dirtyBytes).toBe(0);
    enableDirtyBitmap(graph, { node: 'raw', name: 'off' }, { enabled: true });
    await backend.write(0, 512, allocate(512), 0);
    expect(bitmapOf('raw').dirtyBytes).toBe(65536);
  });
});

describe('commands for dirty bitmaps', () => {
  function refused(work: () => void): string {
    try {
      work();
    } catch (error) {
      if (error instanceof QmpError) return error.desc;
      throw error;
    }
    return 'success';
  }

  it('take the cluster size as granularity, within 4 KiB and 64 KiB', async () => {
    for (const [clusterSize, granularity] of [
      [0, 65536],
      [512, 4096],
      [8192, 8192],
      [2 ** 21, 65536],
    ] as const) {
      const { driver } = memoryDisk({ size: SIZE });
      graph = testGraph({ ...driver, imageInfo: () => ({ clusterSize, isDirty: false }) });
      await graph.add({ driver: 'null-aio', 'node-name': 'disk' });
      add('disk', 'b');
      expect(bitmapOf('disk').granularity).toBe(granularity);
    }
  });

  it('list the newest first, and only where there are any', async () => {
    await opened(memoryDisk({ size: SIZE }));
    add('raw', 'one');
    add('raw', 'two');
    expect(graph.lookUp('raw')?.dirtyBitmaps.map(({ name }) => name)).toEqual(['two', 'one']);
    await removeDirtyBitmap(graph, { node: 'raw', name: 'two' });
    expect(graph.lookUp('raw')?.dirtyBitmaps.map(({ name }) => name)).toEqual(['one']);
  });

  it('leave one alone that is busy, and its node', async () => {
    await opened(memoryDisk({ size: SIZE }));
    add('raw', 'b');
    add('raw', 'free');
    const used = graph.lookUp('raw')?.dirtyBitmaps[1];
    if (used === undefined) throw new Error('no bitmap');
    used.busy = true;
    const which = { node: 'raw', name: 'b' };
    const text = "Bitmap 'b' is currently in use by another operation and cannot be used";
    await expect(removeDirtyBitmap(graph, which)).rejects.toThrow(text);
    expect(refused(() => clearDirtyBitmap(graph, which))).toBe(text);
    const merge = (target: string, bitmaps: string[]): string =>
      refused(() => mergeDirtyBitmaps(graph, { node: 'raw', target, bitmaps }));
    expect(merge('b', ['free'])).toBe(text);
    expect(merge('free', ['b'])).toBe(text);
    expect(merge('b', ['zz'])).toBe("Dirty bitmap 'zz' not found");
    expect(merge('b', [])).toBe('success');
    used.busy = false;
    expect(merge('b', ['free'])).toBe('success');
  });

  it('merge all of the sources or none', async () => {
    const { backend } = await opened(memoryDisk({ size: SIZE }));
    add('raw', 'source', granule(512));
    await backend.write(0, 512, allocate(512), 0);
    add('raw', 'target', granule(512));
    const merge = (bitmaps: (string | { node: string; name: string })[]): string =>
      refused(() => mergeDirtyBitmaps(graph, { node: 'raw', target: 'target', bitmaps }));
    expect(merge(['source', { node: 'nope', name: 'x' }])).toBe("Node 'nope' not found");
    expect(bitmapOf('raw').dirtyBytes).toBe(0);
    expect(merge(['source'])).toBe('success');
    expect(bitmapOf('raw').dirtyBytes).toBe(512);
  });

  it('hash the words of a bitmap, however large', async () => {
    await opened(memoryDisk({ size: SIZE }));
    add('raw', 'b', granule(512));
    const zeroes = createHash('sha256').update(Buffer.alloc(16)).digest('hex');
    expect(await hashDirtyBitmap(graph, { node: 'raw', name: 'b' })).toBe(zeroes);
    await graph.add({ driver: 'null-co', 'node-name': 'large', size: 2 ** 37 });
    add('large', 'b', granule(512));
    const length = 2 ** 37 / 512 / 8;
    const expected = createHash('sha256').update(Buffer.alloc(length)).digest('hex');
    expect(await hashDirtyBitmap(graph, { node: 'large', name: 'b' })).toBe(expected);
  });
});
