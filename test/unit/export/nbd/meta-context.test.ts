import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { BLOCK_DATA, BLOCK_ZERO } from '../../../../src/block/block-driver.ts';
import { contextsOf, Extents, isNamedBy } from '../../../../src/export/nbd/meta-context.ts';

describe('isNamedBy', () => {
  const [context] = contextsOf({ allocationDepth: false });

  it('takes the name, and the family only when listing', () => {
    if (context === undefined) throw new Error('no context');
    expect(isNamedBy(context, 'base:allocation', false)).toBe(true);
    expect(isNamedBy(context, 'base:', true)).toBe(true);
    expect(isNamedBy(context, 'base:', false)).toBe(false);
    for (const query of ['', 'base', 'base:alloc', 'BASE:ALLOCATION', 'qemu:']) {
      expect(isNamedBy(context, query, true)).toBe(false);
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
      const [context] = contextsOf({ allocationDepth: false });
      const extents = new Extents(10_000);
      await context?.collect(striped(later), { offset: 100, length: 512 * 2000 }, extents);
      expect(extents.list).toHaveLength(2001);
      expect(extents.list[0]).toEqual({ length: 412, flags: 0 });
      expect(extents.list[1]).toEqual({ length: 512, flags: 3 });
      expect(extents.list.reduce((sum, { length }) => sum + length, 0)).toBe(512 * 2000);
    },
  );

  it('ends where the reply is full', async () => {
    const [context] = contextsOf({ allocationDepth: false });
    const extents = new Extents(1);
    await context?.collect(striped(false), { offset: 0, length: 512 * 2000 }, extents);
    expect(extents.list).toEqual([{ length: 512, flags: 0 }]);
  });
});
