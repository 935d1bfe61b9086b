import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../src/block/block-backend.ts';
import {
  FUA,
  MAY_UNMAP,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import { later, type MemoryDisk, memoryDisk } from './memory-driver.ts';

const SIZE = 64 * 1024;
const OFFSET = 8192;
const kinds = ['read', 'write', 'zero', 'discard', 'flush'] as const;

interface Step {
  readonly kind: (typeof kinds)[number];
  readonly offset: number;
  readonly length: number;
  readonly fill: number;
  readonly flags: number;
}

/** Requests that touch no byte twice but, cut anywhere, share blocks: whatever their order, the outcome is one. */
const batch = fc
  .array(fc.nat(SIZE), { minLength: 2, maxLength: 12 })
  .map((cuts) => [...new Set(cuts)].sort((a, b) => a - b))
  .chain((cuts) =>
    fc.tuple(
      ...cuts.slice(1).map((end, index) =>
        fc.record({
          kind: fc.constantFrom(...kinds),
          offset: fc.constant(cuts[index] ?? 0),
          length: fc.constant(end - (cuts[index] ?? 0)),
          fill: fc.integer({ min: 0, max: 2 }),
          flags: fc.constantFrom(0, FUA, MAY_UNMAP, FUA | MAY_UNMAP),
        }),
      ),
    ),
  );

const disks = fc.record({
  alignment: fc.constantFrom(1, 512, 4096),
  maxTransfer: fc.constantFrom(0, 4096, 12288),
  zeroAlignment: fc.constantFrom(0, 4096, 16384),
  canZero: fc.boolean(),
  writeFlags: fc.constantFrom(0, FUA),
  detectZeroes: fc.constantFrom('off' as const, 'on' as const, 'unmap' as const),
  delays: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 16 }),
});

describe('io.ts', () => {
  it('does what a plain array does, whatever the alignment, limits and timing', async () => {
    await fc.assert(
      fc.asyncProperty(
        disks,
        fc.array(batch, { minLength: 1, maxLength: 4 }),
        async (how, batches) => {
          const { disk, backend, finish } = await open(how);
          const model = Buffer.alloc(SIZE);
          for (const steps of batches) {
            const before = Buffer.from(model);
            await Promise.all(steps.map((step) => carryOut(backend, step, before)));
            for (const step of steps) applyTo(model, step);
            expect(disk.bytes.subarray(OFFSET, OFFSET + SIZE).equals(model)).toBe(true);
          }
          expect(disk.bytes.subarray(0, OFFSET).every((byte) => byte === 0xee)).toBe(true);
          await finish();
        },
      ),
      { numRuns: 150 },
    );
  });
});

async function carryOut(backend: BlockBackend, step: Step, before: Buffer): Promise<void> {
  const { kind, offset, length, flags } = step;
  const buffer = allocate(length + 7);
  if (kind === 'read') {
    await backend.read(offset, length, buffer, 7);
    expect(buffer.bytes.subarray(7).equals(before.subarray(offset, offset + length))).toBe(true);
  } else if (kind === 'write') {
    buffer.bytes.fill(step.fill);
    await backend.write(offset, length, buffer, 7, flags & FUA);
  } else if (kind === 'zero') {
    await backend.writeZeroes(offset, length, flags);
  } else if (kind === 'discard') {
    await backend.discard(offset, length);
  } else {
    await backend.flush();
  }
}

function applyTo(model: Buffer, { kind, offset, length, fill }: Step): void {
  if (kind === 'write') model.fill(fill, offset, offset + length);
  if (kind === 'zero') model.fill(0, offset, offset + length);
}

interface Opened {
  readonly disk: MemoryDisk;
  readonly backend: BlockBackend;
  readonly finish: () => Promise<void>;
}

/** A raw window of a memory disk. */
async function open(how: typeof disks extends fc.Arbitrary<infer T> ? T : never): Promise<Opened> {
  const disk = memoryDisk({
    size: OFFSET + SIZE + 4096,
    limits: {
      requestAlignment: how.alignment,
      maxTransfer: how.maxTransfer,
      zeroAlignment: how.zeroAlignment,
      discardAlignment: how.zeroAlignment,
    },
    canZero: how.canZero,
    zeroFlags: how.canZero ? MAY_UNMAP : 0,
    writeFlags: how.writeFlags,
  });
  disk.bytes.fill(0xee, 0, OFFSET);
  let turn = 0;
  disk.behave = () => {
    const delay = how.delays[turn++ % how.delays.length] ?? 0;
    return delay === 0 ? undefined : later(delay * 3);
  };
  const graph = testGraph(disk.driver);
  const node = await graph.add({
    driver: 'raw',
    'node-name': 'window',
    offset: OFFSET,
    size: SIZE,
    discard: 'unmap',
    'detect-zeroes': how.detectZeroes,
    file: { driver: 'null-aio', 'detect-zeroes': how.detectZeroes },
  });
  const backend = graph.backend(node, {
    perm: PERM_CONSISTENT_READ | PERM_WRITE,
    shared: PERM_ALL,
  });
  return {
    disk,
    backend,
    async finish() {
      await backend.release();
      await graph.close();
    },
  };
}
