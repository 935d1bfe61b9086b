import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReadCoverage } from '../../../../../src/block/drivers/nbd/read-coverage.ts';

describe('ReadCoverage', () => {
  it('agrees with a set of bytes, whatever comes in which order', () => {
    const part = fc.record({ start: fc.nat(40), length: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), (parts) => {
        const coverage = new ReadCoverage(10);
        const seen = new Set<number>();
        for (const { start, length } of parts) {
          const bytes = Array.from({ length }, (_, index) => 10 + start + index);
          const isNew = bytes.every((byte) => !seen.has(byte));
          expect(coverage.add(10 + start, 10 + start + length)).toBe(isNew);
          if (!isNew) return;
          for (const byte of bytes) seen.add(byte);
          let end = 10;
          while (seen.has(end)) end++;
          expect(coverage.isUpTo(end)).toBe(true);
        }
      }),
    );
  });

  it('takes the parts of a read in reverse order', () => {
    const coverage = new ReadCoverage(0);
    for (let at = 1_000_000; at > 0; at -= 100) expect(coverage.add(at - 100, at)).toBe(true);
    expect(coverage.isUpTo(1_000_000)).toBe(true);
  });

  it('refuses parts that are scattered without end', () => {
    const coverage = new ReadCoverage(0);
    let accepted = 0;
    while (coverage.add(2 * accepted + 1, 2 * accepted + 2)) accepted++;
    expect(accepted).toBe(4096);
  });
});
