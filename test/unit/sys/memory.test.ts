import { constants } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addressOf, viewOf } from '../../../src/sys/libc.ts';
import { allocate, ioBufferOver, release } from '../../../src/sys/memory.ts';

function residentBytes(): number {
  return Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * 4096;
}

describe('allocate', () => {
  it('gives zeroed, page-aligned memory of the asked length', () => {
    for (const length of [1, 512, 4096, 4097, 1024 * 1024]) {
      const buffer = allocate(length);
      expect(buffer.bytes.length).toBe(length);
      expect(buffer.view.byteLength).toBe(length);
      expect(buffer.address % 4096).toBe(0);
      expect(addressOf(buffer.bytes)).toBe(buffer.address);
      expect(buffer.bytes.every((byte) => byte === 0)).toBe(true);
    }
  });

  it('shows the same bytes through all its sides', () => {
    const buffer = allocate(16);
    buffer.bytes[3] = 7;
    expect(buffer.view.getUint32(0)).toBe(7);
  });

  it('costs nothing until it is touched, and nothing any more after release', () => {
    const size = 256 * 1024 * 1024;
    const before = residentBytes();
    const buffer = allocate(size);
    expect(residentBytes() - before).toBeLessThan(size / 4);
    buffer.bytes.fill(1);
    expect(residentBytes() - before).toBeGreaterThan(size / 2);
    release(buffer);
    expect(residentBytes() - before).toBeLessThan(size / 4);
    expect(buffer.bytes[12345]).toBe(0);
    buffer.bytes[12345] = 1;
  });
});

describe('ioBufferOver', () => {
  it('describes existing bytes', () => {
    const bytes = Buffer.from('abcdefgh').subarray(2, 6);
    const buffer = ioBufferOver(bytes);
    expect(buffer.bytes).toBe(bytes);
    expect(buffer.view.getUint8(0)).toBe(0x63);
    expect(buffer.address).toBe(addressOf(bytes));
    expect(ioBufferOver(Buffer.alloc(0)).address).toBe(0);
  });
});

describe('viewOf', () => {
  it('throws for more than node lets a view be, and does not end the program', () => {
    const { address } = allocate(16);
    expect(() => viewOf(address, constants.MAX_LENGTH + 1)).toThrow(RangeError);
  });
});
