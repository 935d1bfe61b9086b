import { describe, expect, it } from 'vitest';
import { BLOCK_DATA, BLOCK_ZERO } from '../../../../src/block/block-driver.ts';
import { DataRange } from '../../../../src/export/nbd/data-range.ts';

const data = { status: BLOCK_DATA, length: 4096 };

describe('DataRange', () => {
  it('knows the last data that it learnt of, and forgets them', () => {
    const range = new DataRange();
    range.learn(512, data, range.now);
    expect(range.covers(512, 4096)).toBe(true);
    expect(range.covers(511, 2)).toBe(false);
    expect(range.covers(4096, 513)).toBe(false);
    range.forget();
    expect(range.covers(512, 1)).toBe(false);
  });

  it('learns neither of zeroes nor what was asked for before it forgot', () => {
    const range = new DataRange();
    range.learn(0, { ...data, status: BLOCK_ZERO }, range.now);
    const before = range.now;
    range.forget();
    range.learn(0, data, before);
    expect(range.covers(0, 1)).toBe(false);
  });
});
