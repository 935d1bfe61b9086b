import { array, assert, maxSafeNat, nat, property, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { getRefcount, setRefcount } from '../../../../../src/block/drivers/qcow2/refcount-block.ts';

describe('refcount block', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])('keeps every number apart, in 2^%i bits', (order) => {
    const most = Math.min(2 ** (2 ** order) - 1, Number.MAX_SAFE_INTEGER);
    const count = 64;
    assert(
      property(array(tuple(nat(count - 1), maxSafeNat()), { maxLength: 50 }), (changes) => {
        const view = new DataView(new ArrayBuffer(count * 8));
        const model = new Array<number>(count).fill(0);
        for (const [index, value] of changes) {
          model[index] = value % (most + 1);
          setRefcount(view, index, order, value % (most + 1));
        }
        expect(model.map((_, index) => getRefcount(view, index, order))).toEqual(model);
      }),
      { numRuns: 50 },
    );
  });

  it('has the lowest bits of a byte first', () => {
    const view = new DataView(new ArrayBuffer(8));
    setRefcount(view, 1, 1, 3);
    expect(view.getUint8(0)).toBe(0b1100);
  });
});
