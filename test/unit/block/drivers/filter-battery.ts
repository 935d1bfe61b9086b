// What every filter owes to those above and below it: a battery of tests that each of them goes through. A filter is put over
// a disk made of memory, and compared with that disk.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { IoError } from '../../../../src/base/errors.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import {
  BLOCK_OFFSET_VALID,
  FUA,
  MAY_UNMAP,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  type Permissions,
} from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import type { BlockNode } from '../../../../src/block/block-node.ts';
import { chainOf } from '../../../../src/block/block-status.ts';
import { addDirtyBitmap } from '../../../../src/block/dirty-bitmap-commands.ts';
import { filenameOf } from '../../../../src/block/filename.ts';
import { ObjectRegistry } from '../../../../src/object/object-registry.ts';
import type { BlockdevOptions } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { ioError, later, type MemoryDisk, memoryDisk } from '../memory-driver.ts';

const KIB = 1024;
const SIZE = 256 * KIB;
const RW = PERM_CONSISTENT_READ | PERM_WRITE;

export interface FilterRow {
  /** Options of the filter over the node `below`, `node-name` left out. */
  readonly options: object;
  /** What has to be there before. */
  readonly prepare?: (graph: BlockGraph, objects: ObjectRegistry) => Promise<unknown>;
  /** Permissions on `below`, when an owner of the filter has and shares these; otherwise the same. */
  readonly below?: (perm: Permissions, shared: Permissions) => [Permissions, Permissions];
  /** The text with which it refuses to be reopened. */
  readonly notReopened?: string;
  /** It needs to write below whether its users do or not. */
  readonly needsWriting?: boolean;
  /** What a write with FUA, zeroes, a discard and a flush come to below, where it is not the same. */
  readonly requests?: readonly string[];
  /** What it cannot do, as the reference. */
  readonly cannot?: readonly ('discard' | 'resize')[];
  /** Its length is that of another child, which is not resized. */
  readonly keepsLength?: boolean;
  /** It does not tell where below the bytes are. */
  readonly tellsNoOffsets?: boolean;
  /** What reaches the disk when it goes, and then the disk; otherwise a flush and its end. */
  readonly end?: readonly string[];
  /** The filename, where it is not `json:` with the options. */
  readonly filename?: RegExp;
}

interface Stack {
  readonly disk: MemoryDisk;
  readonly graph: BlockGraph;
  readonly below: BlockNode;
  readonly top: BlockNode;
  readonly open: (perm?: Permissions) => BlockBackend;
}

const buffer = allocate(SIZE);

export function filterBattery(name: string, row: FilterRow): void {
  const topOptions = (more: object = {}): BlockdevOptions =>
    ({ ...row.options, driver: name, 'node-name': 'top', ...more }) as BlockdevOptions;

  async function stack(more: object = {}, belowMore: object = {}): Promise<Stack> {
    const disk = memoryDisk({
      size: SIZE,
      capacity: 2 * SIZE,
      writeFlags: FUA,
      zeroFlags: FUA | MAY_UNMAP,
      canZero: true,
      canCompress: true,
    });
    for (let at = 0; at < SIZE; at++) disk.bytes[at] = at >= SIZE / 2 ? 0 : 1 + (at % 251);
    const objects = new ObjectRegistry();
    const graph = testGraph(disk.driver, { objects });
    const below = await graph.add({
      driver: 'null-aio',
      'node-name': 'below',
      discard: 'unmap',
      ...belowMore,
    });
    await row.prepare?.(graph, objects);
    const top = await graph.add(topOptions({ discard: 'unmap', ...more }));
    disk.calls.splice(0);
    const open = (perm = RW): BlockBackend => graph.backend(top, { perm, shared: PERM_ALL });
    return { disk, graph, below, top, open };
  }

  describe(`the filter ${name}`, () => {
    it('shows the length and the bytes of what it filters', async () => {
      const { disk, top, open } = await stack();
      expect(top.length).toBe(SIZE);
      const backend = open(PERM_CONSISTENT_READ);
      await backend.read(0, SIZE, buffer, 0);
      expect(buffer.bytes.equals(disk.bytes.subarray(0, SIZE))).toBe(true);
    });

    it('writes, zeroes, discards and flushes there, with flags', async () => {
      const { disk, open } = await stack();
      const backend = open();
      buffer.bytes.fill(9);
      await backend.write(4096, 4096, buffer, 0, FUA);
      await backend.writeZeroes(8192, 4096, MAY_UNMAP);
      await backend.discard(16_384, 4096);
      await backend.flush();
      const seen = disk.calls
        .filter(({ operation }) => operation !== 'read')
        .map((call) => `${call.operation} ${call.offset}+${call.length} ${call.flags}`);
      const same = [
        `write 4096+4096 ${FUA}`,
        `zero 8192+4096 ${MAY_UNMAP}`,
        'discard 16384+4096 0',
        'flush 0+0 0',
      ];
      expect(seen).toEqual(row.requests ?? same);
      expect(disk.bytes.subarray(4096, 8192).every((byte) => byte === 9)).toBe(true);
    });

    it('ends requests after the disk has', async () => {
      const { disk, open } = await stack();
      const backend = open();
      disk.behave = () => later(3);
      buffer.bytes.fill(7, 0, 4096);
      await backend.write(0, 4096, buffer, 0);
      buffer.bytes.fill(0);
      await backend.read(0, 4096, buffer, 0);
      expect(buffer.bytes.subarray(0, 4096).every((byte) => byte === 7)).toBe(true);
    });

    it('tells of failures as they were', async () => {
      const { disk, open } = await stack();
      const backend = open();
      const fails = async (request: () => unknown): Promise<number | undefined> => {
        try {
          await request();
        } catch (error) {
          return error instanceof IoError ? error.errno : -1;
        }
        return undefined;
      };
      await backend.write(0, 512, buffer, 0);
      disk.behave = () => ioError('ENOSPC');
      expect(await fails(() => backend.read(0, 512, buffer, 0))).toBe(errno.ENOSPC);
      expect(await fails(() => backend.write(0, 512, buffer, 0))).toBe(errno.ENOSPC);
      expect(await fails(() => backend.writeZeroes(0, 512))).toBe(errno.ENOSPC);
      const discarded = await fails(() => backend.discard(0, 512));
      expect(discarded).toBe(row.cannot?.includes('discard') ? undefined : errno.ENOSPC);
      expect(await fails(() => backend.flush())).toBe(errno.ENOSPC);
      disk.behave = () => undefined;
      expect(await fails(() => backend.read(0, 512, buffer, 0))).toBeUndefined();
    });

    it('tells of data and zeroes what the disk tells', async () => {
      const { graph, top, below, open } = await stack();
      const backend = open(PERM_CONSISTENT_READ);
      const direct = graph.backend(below, { perm: 0, shared: PERM_ALL });
      for (const [offset, length] of [
        [0, SIZE],
        [512, 4096],
        [SIZE / 2 - 1024, 4096],
        [SIZE / 2, SIZE / 2],
      ] as const) {
        const { status, length: extent } = await backend.blockStatus(offset, length);
        const expected = await direct.blockStatus(offset, length);
        const hidden = row.tellsNoOffsets === true ? BLOCK_OFFSET_VALID : 0;
        expect([status, extent]).toEqual([expected.status & ~hidden, expected.length]);
      }
      if (top.driver.kind === 'filter') expect([...chainOf(top)]).toEqual([top, below]);
    });

    it.each([
      ['nothing', 0, PERM_ALL],
      ['reading', PERM_CONSISTENT_READ, PERM_ALL],
      ['writing', RW, PERM_ALL],
      ['resizing', RW | PERM_RESIZE, PERM_ALL],
      ['writing alone', RW, PERM_CONSISTENT_READ],
    ])('needs below what its users need: %s', async (_what, perm, shared) => {
      const { graph, top, below } = await stack();
      graph.backend(top, { perm, shared });
      const edge = below.parents.find((user) => user.parent.parentNode === top);
      expect([edge?.perm, edge?.sharedPerm]).toEqual(row.below?.(perm, shared) ?? [perm, shared]);
    });

    it('lets nobody write who may not', async () => {
      if (row.needsWriting === true) {
        await expect(stack({}, { 'read-only': true })).rejects.toThrow('Block node is read-only');
        return;
      }
      const { graph, top } = await stack({ 'read-only': true }, { 'read-only': true });
      expect(() => graph.backend(top, { perm: RW, shared: PERM_ALL })).toThrow(
        'Block node is read-only',
      );
    });

    it('resizes what it filters', async () => {
      const { disk, top, below, open } = await stack();
      const backend = open(RW | PERM_RESIZE);
      if (row.cannot?.includes('resize')) {
        const resized = backend.truncate(SIZE / 2, { exact: true, prealloc: 'off', flags: 0 });
        await expect(resized).rejects.toThrow('Image format driver does not support resize');
        return;
      }
      let told = 0;
      backend.onResize = () => told++;
      for (const size of [SIZE + 64 * KIB, SIZE - 64 * KIB]) {
        await backend.truncate(size, { exact: true, prealloc: 'off', flags: 0 });
        const own = row.keepsLength === true ? SIZE : size;
        expect([top.length, below.length]).toEqual([own, size]);
      }
      if (row.keepsLength !== true) expect(told).toBeGreaterThanOrEqual(2);
      expect(disk.calls.some(({ operation }) => operation === 'truncate')).toBe(true);
    });

    it('is reopened with its options, or says that it cannot be', async () => {
      const { graph, top, open } = await stack();
      const backend = open();
      const again = graph.reopen([topOptions({ 'detect-zeroes': 'on', discard: 'unmap' })]);
      if (row.notReopened === undefined) {
        await again;
        expect(top.detectZeroes).toBe('on');
      } else {
        await expect(again).rejects.toThrow(row.notReopened);
      }
      await backend.write(0, 4096, buffer, 0);
      await backend.read(0, 4096, buffer, 0);
    });

    it('has dirty bitmaps of its own', async () => {
      const { graph, top, open } = await stack();
      addDirtyBitmap(graph, { node: 'top', name: 'b', granularity: 512 });
      const backend = open();
      await backend.write(1024, 512, buffer, 0);
      await backend.writeZeroes(4096, 1024);
      await backend.discard(8192, 512);
      const [bitmap] = top.dirtyBitmaps;
      // A discard that comes to nothing changes nothing.
      expect(bitmap?.dirtyBytes).toBe(row.cannot?.includes('discard') ? 1536 : 2048);
    });

    it('is called by its options', async () => {
      const { top } = await stack();
      expect(filenameOf(top)).toMatch(row.filename ?? new RegExp(`^json:.*"driver": "${name}"`));
    });

    it('waits for what is under way when it is drained, and flushes before it goes', async () => {
      const { disk, graph, open } = await stack();
      const backend = open();
      const order: string[] = [];
      disk.behave = ({ operation }) => (operation === 'write' ? later(20) : undefined);
      const written = Promise.resolve(backend.write(0, 4096, buffer, 0)).then(() =>
        order.push('written'),
      );
      await graph.drain();
      order.push('drained');
      await written;
      expect(order).toEqual(['written', 'drained']);
      await backend.release();
      disk.calls.splice(0);
      await graph.remove('top');
      await graph.remove('below');
      expect(disk.calls.map(({ operation }) => operation)).toEqual(row.end ?? ['flush', 'close']);
    });

    it('reads what was written, whatever the requests', async () => {
      const request = fc.record({
        kind: fc.constantFrom('read', 'write', 'write', 'zero', 'discard'),
        offset: fc.nat(SIZE / 512 - 1),
        count: fc.integer({ min: 1, max: 64 }),
        byte: fc.integer({ min: 1, max: 255 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(request, { maxLength: 30 }), async (requests) => {
          const { disk, graph, open } = await stack();
          disk.behave = ({ offset }) => (offset % 1024 === 0 ? later(2) : undefined);
          const backend = open();
          const model = Buffer.from(disk.bytes.subarray(0, SIZE));
          for (const { kind, offset: sector, count, byte } of requests) {
            const offset = sector * 512;
            const length = Math.min(count * 512, SIZE - offset);
            if (kind === 'read') {
              await backend.read(offset, length, buffer, 0);
              expect(buffer.bytes.compare(model, offset, offset + length, 0, length)).toBe(0);
            } else if (kind === 'write') {
              buffer.bytes.fill(byte, 0, length);
              model.fill(byte, offset, offset + length);
              await backend.write(offset, length, buffer, 0);
            } else if (kind === 'zero') {
              model.fill(0, offset, offset + length);
              await backend.writeZeroes(offset, length);
            } else {
              // This disk ignores discards.
              await backend.discard(offset, length);
            }
          }
          await backend.release();
          await graph.close();
          expect(disk.bytes.subarray(0, SIZE).equals(model)).toBe(true);
        }),
        { numRuns: 20 },
      );
    });
  });
}
