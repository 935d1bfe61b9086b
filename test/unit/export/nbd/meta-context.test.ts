import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { BLOCK_DATA, BLOCK_ZERO } from '../../../../src/block/block-driver.ts';
import { DirtyBitmap } from '../../../../src/block/dirty-bitmap.ts';
import { contextsOf, Extents, namedBy } from '../../../../src/export/nbd/meta-context.ts';

describe('namedBy', () => {
  const source = (name: string) => ({ name, nextDirtyArea: () => undefined });
  const contexts = contextsOf({
    allocationDepth: true,
    bitmaps: [source('b0'), source('b\u00e9'), source('b0')],
  });
  const ids = (query: string, listing: boolean): number[] =>
    namedBy(contexts, query, listing).map(({ id }) => id);

  it('finds a context by its name, the first where there are several', () => {
    for (const listing of [false, true]) {
      expect(ids('base:allocation', listing)).toEqual([0]);
      expect(ids('qemu:allocation-depth', listing)).toEqual([1]);
      expect(ids('qemu:dirty-bitmap:b0', listing)).toEqual([2]);
      expect(ids('qemu:dirty-bitmap:b\xc3\xa9', listing)).toEqual([3]);
    }
  });

  it('finds families only when listing', () => {
    expect(ids('base:', true)).toEqual([0]);
    expect(ids('qemu:', true)).toEqual([1, 2, 3, 4]);
    expect(ids('qemu:dirty-bitmap:', true)).toEqual([2, 3, 4]);
    for (const query of ['base:', 'qemu:', 'qemu:dirty-bitmap:']) {
      expect(ids(query, false)).toEqual([]);
    }
  });

  it('finds nothing for anything else', () => {
    for (const query of [
      '',
      'base',
      'base:alloc',
      'BASE:ALLOCATION',
      'qemu',
      'qemu:dirty-bitmap',
    ]) {
      expect(ids(query, true)).toEqual([]);
    }
  });
});

describe('Extents', () => {
  it('makes neighbours of the same kind one, and stops when it is full', () => {
    const extents = new Extents(2);
    expect(extents.add(10, 0)).toBe(true);
    expect(extents.add(5, 0)).toBe(true);
    expect(extents.add(7, 3)).toBe(true);
    expect(extents.add(7, 3)).toBe(true);
    expect(extents.add(1, 0)).toBe(false);
    expect(extents.list).toEqual([
      { length: 15, flags: 0 },
      { length: 14, flags: 3 },
    ]);
  });
});

describe('base:allocation', () => {
  /** A disk of pieces of 512 bytes, data and zeroes in turn. */
  function striped(later: boolean): BlockBackend {
    const blockStatus = (offset: number, length: number) => {
      const found = {
        status: Math.floor(offset / 512) % 2 === 0 ? BLOCK_DATA : BLOCK_ZERO,
        length: Math.min(512 - (offset % 512), length),
      };
      return later ? Promise.resolve(found) : found;
    };
    return { blockStatus } as unknown as BlockBackend;
  }

  it.each([true, false])(
    'covers a range of thousands of pieces (asked later: %s)',
    async (later) => {
      const [context] = contextsOf({ allocationDepth: false, bitmaps: [] });
      const extents = new Extents(10_000);
      await context?.collect(striped(later), { offset: 100, length: 512 * 2000 }, extents);
      expect(extents.list).toHaveLength(2001);
      expect(extents.list[0]).toEqual({ length: 412, flags: 0 });
      expect(extents.list[1]).toEqual({ length: 512, flags: 3 });
      expect(extents.list.reduce((sum, { length }) => sum + length, 0)).toBe(512 * 2000);
    },
  );

  it('ends where the reply is full', async () => {
    const [context] = contextsOf({ allocationDepth: false, bitmaps: [] });
    const extents = new Extents(1);
    await context?.collect(striped(false), { offset: 0, length: 512 * 2000 }, extents);
    expect(extents.list).toEqual([{ length: 512, flags: 0 }]);
  });
});

describe('qemu:dirty-bitmap', () => {
  const MIB = 1024 * 1024;
  const backend = {} as BlockBackend;

  function collected(
    marks: readonly (readonly [offset: number, length: number])[],
    range: { readonly offset: number; readonly length: number },
    max = 100,
  ): readonly (readonly [length: number, flags: number])[] {
    const bitmap = new DirtyBitmap({
      name: 'b',
      granularity: 64 * 1024,
      length: 10 * MIB,
      enabled: true,
    });
    for (const [offset, length] of marks) bitmap.mark(offset, length);
    const extents = new Extents(max);
    const context = contextsOf({ allocationDepth: false, bitmaps: [bitmap] })[1];
    expect(context?.collect(backend, range, extents)).toBeUndefined();
    return extents.list.map(({ length, flags }) => [length, flags]);
  }

  it('tells clean and dirty in turn, whole granules cut at the range', () => {
    expect(collected([], { offset: 5, length: MIB })).toEqual([[MIB, 0]]);
    expect(collected([[0, 1]], { offset: 0, length: MIB })).toEqual([
      [65536, 1],
      [MIB - 65536, 0],
    ]);
    expect(collected([[MIB, 2 * MIB]], { offset: MIB - 512, length: 1024 })).toEqual([
      [512, 0],
      [512, 1],
    ]);
  });

  it('calls clean what lies behind the end of the bitmap', () => {
    expect(collected([[9 * MIB, MIB]], { offset: 9 * MIB, length: 2 * MIB })).toEqual([
      [MIB, 1],
      [MIB, 0],
    ]);
  });

  it('ends where the reply is full', () => {
    const marks = [
      [0, 1],
      [2 * MIB, 1],
    ] as const;
    expect(collected(marks, { offset: 0, length: 4 * MIB }, 1)).toEqual([[65536, 1]]);
    expect(collected(marks, { offset: 65536, length: 4 * MIB }, 1)).toEqual([[2 * MIB - 65536, 0]]);
  });
});
