import { describe, expect, it } from 'vitest';
import { statusMemory } from '../../../../src/export/nbd/block-status.ts';
import { BufferPool, footprint, LARGEST_SIZE } from '../../../../src/export/nbd/buffer-pool.ts';
import { NbdRequest } from '../../../../src/net/nbd/wire.ts';
import { allocate, release } from '../../../../src/sys/memory.ts';

const MIB = 1024 * 1024;

describe('footprint', () => {
  it('is at least the size of the buffer that the pool takes for the data with their header', () => {
    const pool = new BufferPool({ allocate, release });
    for (const length of [1, 4096, 256 * 1024, 256 * 1024 + 1, MIB, 2 * MIB, 17 * MIB, 32 * MIB]) {
      const buffer = pool.take(length + 4096);
      expect(footprint(length)).toBeGreaterThanOrEqual(buffer.bytes.length);
      pool.give(buffer);
    }
    pool.trim();
  });

  it('wastes next to nothing for powers of two, and never more than is asked for above the smallest', () => {
    for (let length = 256 * 1024; length <= 32 * MIB; length *= 2) {
      expect(footprint(length)).toBeLessThan(length * 1.05);
      if (length < 32 * MIB) expect(footprint(length + 1)).toBeLessThan(length * 2.05);
    }
    expect(footprint(32 * MIB)).toBe(LARGEST_SIZE);
  });
});

describe('statusMemory', () => {
  it('is small for small ranges and one extent, and bounded for giant ones', () => {
    const request = new NbdRequest();
    request.flags = 0;
    request.length = 4096;
    expect(statusMemory(request)).toBeLessThan(1024);
    request.length = 0xffff_ffff;
    expect(statusMemory(request)).toBeLessThanOrEqual(8 * MIB);
    request.flags = 8;
    expect(statusMemory(request)).toBeLessThan(1024);
  });
});
