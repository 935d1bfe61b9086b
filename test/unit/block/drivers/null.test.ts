import { describe, expect, it } from 'vitest';
import { BLOCK_OFFSET_VALID, BLOCK_ZERO, FUA } from '../../../../src/block/block-driver.ts';
import { nullAio, nullCo } from '../../../../src/block/drivers/null.ts';
import type { BlockdevOptionsNull } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { openNode } from './open-node.ts';

describe('null-co', () => {
  it('has 1 GiB unless told otherwise', async () => {
    expect((await openNode(nullCo, {})).length).toBe(1024 ** 3);
    expect((await openNode(nullCo, { size: 1000 })).length).toBe(1024);
    expect((await openNode(nullCo, { size: 0 })).length).toBe(0);
  });

  it('completes at once, shows nothing of what was in memory, and understands FUA', async () => {
    const node = await openNode(nullCo, {});
    const into = allocate(512);
    into.bytes.fill(5);
    expect(nullCo.read(node, 0, 512, into, 0, 0)).toBeUndefined();
    expect(into.bytes).toEqual(Buffer.alloc(512));
    expect(nullCo.write?.(node, 0, 512, into, 0, FUA)).toBeUndefined();
    expect(nullCo.flush?.(node)).toBeUndefined();
    expect(node.supportedWriteFlags).toBe(FUA);
    expect(nullCo.allocatedSize?.(node)).toBe(0);
  });

  it('reads zeroes within the range only, and promises them when asked to', async () => {
    const node = await openNode(nullCo, { 'read-zeroes': true });
    const into = allocate(1024);
    into.bytes.fill(5);
    await nullCo.read(node, 0, 512, into, 256, 0);
    expect(into.bytes.subarray(256, 768)).toEqual(Buffer.alloc(512));
    expect(into.bytes[255]).toBe(5);
    expect(into.bytes[768]).toBe(5);
    expect(await nullCo.blockStatus?.(node, 512, 1024, true)).toEqual({
      status: BLOCK_OFFSET_VALID | BLOCK_ZERO,
      length: 1024,
      hostOffset: 512,
      file: node,
    });
  });

  it('waits as long as its latency says', async () => {
    const node = await openNode(nullCo, { 'latency-ns': 3_000_000 });
    const begin = performance.now();
    await nullCo.flush?.(node);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(3);
  });

  const refused: [what: string, options: object, message: string][] = [
    ['a negative size', { size: -1 }, "Parameter 'size' expects a non-negative number below 2^64"],
    ['a negative latency', { 'latency-ns': -1 }, 'latency-ns is invalid'],
  ];
  it.each(refused)('refuses %s', async (_what, options, message) => {
    await expect(openNode(nullCo, options as BlockdevOptionsNull)).rejects.toThrow(message);
  });
});

describe('null-aio', () => {
  it('completes later', async () => {
    const node = await openNode(nullAio, {});
    const later = nullAio.read(node, 0, 512, allocate(512), 0, 0);
    expect(later).toBeInstanceOf(Promise);
    await later;
  });
});
