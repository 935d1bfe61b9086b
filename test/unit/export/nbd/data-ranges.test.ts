import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_DATA, BLOCK_ZERO } from '../../../../src/block/block-driver.ts';
import { DataRanges } from '../../../../src/export/nbd/data-ranges.ts';

const data = { status: BLOCK_DATA, length: 4096 };

describe('DataRanges', () => {
  it('knows the data that it learnt of, and forgets them', () => {
    const ranges = new DataRanges();
    ranges.learn(512, data, ranges.now);
    ranges.learn(65_536, data, ranges.now);
    expect(ranges.covers(512, 4096)).toBe(true);
    expect(ranges.covers(65_536, 4096)).toBe(true);
    expect(ranges.covers(511, 2)).toBe(false);
    expect(ranges.covers(4096, 513)).toBe(false);
    ranges.forget();
    expect(ranges.covers(512, 1)).toBe(false);
    expect(ranges.covers(65_536, 1)).toBe(false);
  });

  it('learns neither of zeroes nor what was asked for before it forgot', () => {
    const ranges = new DataRanges();
    ranges.learn(0, { ...data, status: BLOCK_ZERO }, ranges.now);
    const before = ranges.now;
    ranges.forget();
    ranges.learn(0, data, before);
    expect(ranges.covers(0, 1)).toBe(false);
  });

  it('begins anew when there are too many', () => {
    const ranges = new DataRanges();
    for (let index = 0; index <= 1024; index++) ranges.learn(index * 8192, data, ranges.now);
    expect(ranges.covers(0, 1)).toBe(false);
    expect(ranges.covers(1024 * 8192, 4096)).toBe(true);
  });

  it('tells of bytes what it was told of them, in whatever order', () => {
    const size = 64;
    const range = fc.record({ offset: fc.nat(size - 1), length: fc.integer({ min: 1, max: 16 }) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 20 }), (learnt) => {
        const ranges = new DataRanges();
        const known = Array.from({ length: size + 16 }, () => false);
        for (const { offset, length } of learnt) {
          ranges.learn(offset, { status: BLOCK_DATA, length }, ranges.now);
          known.fill(true, offset, offset + length);
        }
        const questions = Array.from({ length: size * 16 }, (_, index) => ({
          offset: Math.floor(index / 16),
          length: 1 + (index % 16),
        }));
        return questions.every(
          ({ offset, length }) =>
            ranges.covers(offset, length) === known.slice(offset, offset + length).every(Boolean),
        );
      }),
      { numRuns: 200 },
    );
  });
});
