// The drivers on real files, driven through the graph, against a plain array: whatever the mixture of requests, alignments
// and settings, what is read is what was written.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import {
  BLOCK_ZERO,
  FUA,
  MAY_UNMAP,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../../src/block/block-driver.ts';
import type { BlockdevOptions } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';

const LENGTH = 48 * 1024;

const request = fc.record({
  kind: fc.constantFrom('read', 'write', 'write', 'zero', 'unmap', 'discard', 'status'),
  offset: fc.nat(LENGTH - 1),
  length: fc.integer({ min: 1, max: 16 * 1024 }),
  at: fc.constantFrom(0, 16, 28),
  byte: fc.integer({ min: 1, max: 255 }),
  /** Rarely: it waits for the disk. */
  durable: fc.nat(15).map((n) => n === 0),
});
type Request = typeof request extends fc.Arbitrary<infer R> ? R : never;

const settings = fc.record({
  direct: fc.boolean(),
  /** Bytes that the file's length falls short of whole sectors. */
  missing: fc.constantFrom(0, 0, 24, 511),
  directory: fc.constantFrom(tmpdir(), '/dev/shm'),
  window: fc.option(fc.constantFrom(0, 512, 4096), { nil: undefined }),
});

/** Runs one request and checks it against `model`; discarded bytes may be anything and become zeroes. */
async function run(backend: BlockBackend, model: Buffer, request: Request): Promise<void> {
  const { kind, offset, at, byte } = request;
  const length = Math.min(request.length, model.length - offset);
  const flags = request.durable ? FUA : 0;
  const memory = allocate(at + length);
  const range = model.subarray(offset, offset + length);
  switch (kind) {
    case 'read':
      memory.bytes.fill(0xee);
      await backend.read(offset, length, memory, at);
      expect(memory.bytes.subarray(at).equals(range)).toBe(true);
      return;
    case 'write':
      memory.bytes.fill(byte);
      await backend.write(offset, length, memory, at, flags);
      range.fill(byte);
      return;
    case 'zero':
    case 'unmap':
      await backend.writeZeroes(offset, length, flags | (kind === 'unmap' ? MAY_UNMAP : 0));
      range.fill(0);
      return;
    case 'discard':
      await backend.discard(offset, length);
      // What a discarded byte reads as is not promised: either it is as before or zero.
      await backend.read(offset, length, memory, at);
      expect(memory.bytes.subarray(at).every((now, n) => now === 0 || now === range[n])).toBe(true);
      memory.bytes.copy(range, 0, at);
      return;
    case 'status': {
      const { status, length: extent } = await backend.blockStatus(offset, length);
      expect(extent).toBeGreaterThan(0);
      const told = range.subarray(0, extent);
      if ((status & BLOCK_ZERO) !== 0) expect(told.every((byte) => byte === 0)).toBe(true);
    }
  }
}

describe('file and raw', () => {
  it('read what was written, whatever the requests', async () => {
    await fc.assert(
      fc.asyncProperty(
        settings,
        fc.array(request, { maxLength: 40 }),
        async (setting, requests) => {
          const folder = mkdtempSync(join(setting.directory, 'model-'));
          const graph = testGraph();
          try {
            const filename = join(folder, 'disk.img');
            const before = setting.window ?? 0;
            // Something behind the window too, which must stay as it is.
            const after = setting.window === undefined ? 0 : 4096;
            writeFileSync(filename, Buffer.alloc(before + LENGTH + after - setting.missing, 0x55));
            const file: BlockdevOptions = {
              driver: 'file',
              filename,
              cache: { direct: setting.direct },
            };
            const node = await graph.add({
              driver: 'raw',
              'node-name': 'top',
              discard: 'unmap',
              cache: { direct: setting.direct },
              file,
              ...(setting.window === undefined ? {} : { offset: before, size: LENGTH }),
            });
            const backend = graph.backend(node, {
              // Without it, direct I/O to a file that does not end on a block is read-only.
              perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
              shared: PERM_ALL,
            });
            expect(backend.length).toBe(LENGTH);
            const model = Buffer.alloc(LENGTH, 0x55);
            const tail = after === 0 ? setting.missing : 0;
            model.fill(0, LENGTH - tail);
            for (const each of requests) await run(backend, model, each);
            await backend.release();
            await graph.close();
            const now = readFileSync(filename);
            const inside = now.subarray(before, before + LENGTH);
            expect(inside.equals(model.subarray(0, inside.length))).toBe(true);
            expect(now.subarray(0, before).equals(Buffer.alloc(before, 0x55))).toBe(true);
            const behind = now.subarray(before + LENGTH);
            const untouched = after - setting.missing;
            if (after > 0) {
              expect(behind.subarray(0, untouched).equals(Buffer.alloc(untouched, 0x55))).toBe(
                true,
              );
            }
          } finally {
            await graph.close();
            rmSync(folder, { recursive: true });
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
