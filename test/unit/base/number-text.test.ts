import { describe, expect, it } from 'vitest';
import {
  parseNumberText,
  parseSizeText,
  parseUnsignedText,
} from '../../../src/base/number-text.ts';

describe('parseSizeText', () => {
  it.each([
    ['0', 0n],
    ['512', 512n],
    ['4k', 4096n],
    ['1K', 1024n],
    ['1.5G', 1610612736n],
    ['1.k', 1024n],
    ['0.5k', 512n],
    ['0x1000', 4096n],
    ['0x10k', 16384n],
    ['16E', 'out of range'],
    ['15E', 15n << 60n],
    ['18446744073709551615', 2n ** 64n - 1n],
    ['18446744073709551616', 'out of range'],
    ['12B', 12n],
    ['1.5', 'invalid'],
    ['-1', 'invalid'],
    ['1x', 'invalid'],
    ['1kk', 'invalid'],
    ['', 'invalid'],
    ['k', 'invalid'],
  ])('%s', (text, size) => {
    expect(parseSizeText(text)).toBe(size);
  });
});

describe('parseNumberText', () => {
  it.each([
    ['10', 10n],
    [' 10', 10n],
    ['-0x10', -16n],
    ['010', 8n],
    ['08', 'invalid'],
    ['1 ', 'invalid'],
    ['9223372036854775807', 2n ** 63n - 1n],
    ['9223372036854775808', 'out of range'],
    ['-9223372036854775809', 'out of range'],
  ])('%s', (text, number) => {
    expect(parseNumberText(text)).toBe(number);
  });
});

describe('parseUnsignedText', () => {
  it('wraps negative numbers around, as strtoull does', () => {
    expect(parseUnsignedText('-1')).toBe(2n ** 64n - 1n);
    expect(parseUnsignedText('-18446744073709551616')).toBe('out of range');
  });
});
