import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bitmap } from '../../../src/base/bitmap.ts';

const LEAF = 8192;
const edges = [0, 1, 31, 32, 63, 64, LEAF - 1, LEAF, LEAF + 1, 256 * LEAF - 1, 256 * LEAF];

/** Bits near places where words, leaves and branches meet; a model of them is small whatever lies between. */
const bit = fc
  .tuple(fc.constantFrom(...edges), fc.integer({ min: -70, max: 70 }))
  .map(([edge, away]) => Math.max(0, edge + away));
const ranges = fc.tuple(bit, bit).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom('set' as const, 'clear' as const), range: ranges }),
    fc.record({ kind: fc.constant('resize' as const), range: ranges }),
    fc.record({ kind: fc.constant('clearAll' as const), range: ranges }),
    fc.record({ kind: fc.constant('union' as const), range: ranges }),
  ),
  { maxLength: 12 },
);

/** A set of numbers, as sorted ranges [start, end) that do not touch. */
class RangeSet {
  ranges: (readonly [start: number, end: number])[] = [];

  add(start: number, end: number): void {
    const touching = this.ranges.filter(([from, to]) => from <= end && to >= start);
    const merged = [
      Math.min(start, ...touching.map(([from]) => from)),
      Math.max(end, ...touching.map(([, to]) => to)),
    ] as const;
    this.ranges = [...this.ranges.filter((range) => !touching.includes(range)), merged].sort(
      (one, other) => one[0] - other[0],
    );
  }

  remove(start: number, end: number): void {
    this.ranges = this.ranges.flatMap(([from, to]) =>
      [[from, Math.min(to, start)] as const, [Math.max(from, end), to] as const].filter(
        ([left, right]) => left < right,
      ),
    );
  }

  get count(): number {
    return this.ranges.reduce((sum, [from, to]) => sum + to - from, 0);
  }
}

function rangesOf(bitmap: Bitmap): RangeSet['ranges'] {
  const found: RangeSet['ranges'] = [];
  let at = 0;
  for (;;) {
    const start = bitmap.nextSet(at, bitmap.length);
    if (start < 0) return found;
    const clear = bitmap.nextClear(start, bitmap.length);
    const end = clear < 0 ? bitmap.length : clear;
    found.push([start, end]);
    at = end;
  }
}

function bytesOf(bitmap: Bitmap): Buffer {
  return Buffer.concat([...bitmap.bytes()].map((piece) => Buffer.from(piece)));
}

describe('Bitmap', () => {
  it('is a set of numbers, whatever is set, cleared, united and resized', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3 * 256 * LEAF }), steps, (length, program) => {
        let size = length;
        const bitmap = new Bitmap(size);
        const model = new RangeSet();
        for (const { kind, range } of program) {
          const [first, last] = range;
          const end = Math.min(last + 1, size);
          if (kind === 'resize') {
            size = last;
            bitmap.resize(size);
            model.remove(size, Infinity);
          } else if (kind === 'clearAll') {
            bitmap.clearAll();
            model.ranges = [];
          } else if (first >= end) {
            continue;
          } else if (kind === 'clear') {
            bitmap.clear(first, end - 1);
            model.remove(first, end);
          } else if (kind === 'set') {
            bitmap.set(first, end - 1);
            model.add(first, end);
          } else {
            const other = new Bitmap(size);
            other.set(first, end - 1);
            bitmap.union(other);
            bitmap.clear(first, first);
            expect(other.count).toBe(end - first);
            model.add(first, end);
            model.remove(first, first + 1);
          }
          expect(rangesOf(bitmap)).toEqual(model.ranges);
          expect(bitmap.count).toBe(model.count);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('finds the first bit of a kind within any bounds', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.uniqueArray(fc.nat(299)),
        fc.nat(310),
        fc.nat(310),
        (length, chosen, from, end) => {
          const bits = new Set(chosen.filter((one) => one < length));
          const bitmap = new Bitmap(length);
          for (const one of bits) bitmap.set(one, one);
          const within = Array.from({ length }, (_, at) => at).slice(from, Math.max(from, end));
          expect(bitmap.nextSet(from, end)).toBe(within.find((at) => bits.has(at)) ?? -1);
          expect(bitmap.nextClear(from, end)).toBe(within.find((at) => !bits.has(at)) ?? -1);
          expect(within.every((at) => bitmap.has(at) === bits.has(at))).toBe(true);
        },
      ),
    );
  });

  it('serialises to little-endian words of 64 bits, at least one', () => {
    expect(bytesOf(new Bitmap(0))).toEqual(Buffer.alloc(8));
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 * LEAF }),
        fc.uniqueArray(fc.nat(3 * LEAF), { maxLength: 20 }),
        (length, chosen) => {
          const bitmap = new Bitmap(length);
          const expected = Buffer.alloc(Math.ceil(length / 64) * 8);
          for (const at of chosen.filter((one) => one < length)) {
            bitmap.set(at, at);
            expected[at >> 3] = (expected[at >> 3] ?? 0) | (1 << (at & 7));
          }
          expect(bytesOf(bitmap).equals(expected)).toBe(true);
        },
      ),
    );
  });

  it('serialises long runs of equal bits', () => {
    const bitmap = new Bitmap(2 ** 24 + 100);
    bitmap.set(LEAF, 2 ** 24 + 99);
    const bytes = bytesOf(bitmap);
    expect(bytes).toHaveLength(Math.ceil((2 ** 24 + 100) / 64) * 8);
    expect(bytes.subarray(0, LEAF / 8).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(LEAF / 8, 2 ** 21 + 12).every((byte) => byte === 0xff)).toBe(true);
    expect([...bytes.subarray(2 ** 21 + 12)]).toEqual([0x0f, 0, 0, 0]);
  });

  it('takes no memory for long runs, however many bits there are', () => {
    const bits = 2 ** 44;
    const bitmap = new Bitmap(bits);
    bitmap.set(0, bits - 1);
    expect(bitmap.count).toBe(bits);
    bitmap.clear(2 ** 43 + 5, 2 ** 43 + 5);
    expect(bitmap.nextClear(0, bits)).toBe(2 ** 43 + 5);
    expect(bitmap.nextClear(2 ** 43 + 6, bits)).toBe(-1);
    expect(bitmap.nextSet(2 ** 43 + 5, bits)).toBe(2 ** 43 + 6);
    expect(bitmap.count).toBe(bits - 1);
    bitmap.resize(2 ** 43);
    expect(bitmap.count).toBe(2 ** 43);
    bitmap.resize(2 ** 20);
    bitmap.resize(2 ** 44);
    expect(bitmap.count).toBe(2 ** 20);
    expect(bitmap.nextClear(0, bits)).toBe(2 ** 20);
  });

  it('refuses what it has no tree for, and bitmaps of another length', () => {
    expect(() => new Bitmap(2 ** 54)).toThrow(RangeError);
    expect(() => new Bitmap(5).union(new Bitmap(6))).toThrow(RangeError);
  });

  it('gives its bits away and takes them back, in pieces of any size', () => {
    fc.assert(
      fc.property(
        fc.array(ranges, { maxLength: 6 }),
        bit,
        fc.constantFrom(4, 8, 512, 1024, 4096),
        (sets, length, piece) => {
          const bitmap = new Bitmap(length + 1);
          for (const [first, last] of sets) {
            if (last <= length) bitmap.set(first, last);
          }
          const copy = new Bitmap(length + 1);
          copy.set(0, length);
          const bytes = new Uint8Array(piece);
          for (let first = 0; first <= length; first += piece * 8) {
            bitmap.copyTo(first, bytes);
            copy.copyFrom(first, bytes);
          }
          expect(rangesOf(copy)).toEqual(rangesOf(bitmap));
          expect(copy.count).toBe(bitmap.count);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('takes no bits behind its end', () => {
    for (const length of [1, 31, 33, 4097, LEAF + 1]) {
      const bitmap = new Bitmap(length);
      bitmap.copyFrom(0, new Uint8Array(2 * LEAF).fill(0xff));
      expect(bitmap.count).toBe(length);
      bitmap.copyFrom(0, new Uint8Array(2 * LEAF).fill(0xfe));
      bitmap.resize(length + 64);
      expect(bitmap.nextSet(length, length + 64)).toBe(-1);
    }
  });
});
