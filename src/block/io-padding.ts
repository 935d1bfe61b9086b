// Requests that do not fit a node's alignment: read more than asked and cut, or read, change and write back what lies around
// a write, while nothing else touches it.

import type { IoBuffer } from '../base/io-buffer.ts';
import type { RequestFlags } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { readAligned, readNow, writeNow } from './io-aligned.ts';
import { alignedDown, alignedUp } from './io-driver.ts';
import { writeZeroesAligned } from './io-zero.ts';

/** Up to here a widened request goes through a bounce buffer as one; above, the aligned middle uses the caller's memory. */
const WHOLE = 64 * 1024;

/** As read, for any area. */
export async function readUnaligned(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  flags: RequestFlags,
): Promise<void> {
  const { requestAlignment } = node.limits;
  const start = alignedDown(offset, requestAlignment);
  const end = alignedUp(offset + length, requestAlignment);
  if (end - start <= Math.max(WHOLE, requestAlignment)) {
    const bounce = node.pool.take(end - start);
    await readAligned(node, start, end - start, bounce, 0, flags);
    bounce.bytes.copy(into.bytes, at, offset - start, offset - start + length);
    node.pool.give(bounce);
    return;
  }
  for (const part of parts(offset, length, requestAlignment)) {
    if (part.aligned) {
      await readAligned(node, part.offset, part.length, into, at + part.offset - offset, flags);
    } else {
      await readUnaligned(node, part.offset, part.length, into, at + part.offset - offset, flags);
    }
  }
}

/** As write, for any area. */
export async function writeUnaligned(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
): Promise<void> {
  const { requestAlignment } = node.limits;
  const request = node.requests.begin(offset, length);
  try {
    await node.requests.serialise(request, requestAlignment);
    const widened =
      alignedUp(offset + length, requestAlignment) - alignedDown(offset, requestAlignment);
    if (widened <= WHOLE) {
      await readModifyWrite(node, offset, length, flags, (bounce, to) => {
        from.bytes.copy(bounce.bytes, to, at, at + length);
      });
      return;
    }
    for (const part of parts(offset, length, requestAlignment)) {
      const partAt = at + part.offset - offset;
      if (part.aligned) {
        await writeNow(node, part.offset, part.length, from, partAt, flags);
      } else {
        await readModifyWrite(node, part.offset, part.length, flags, (bounce, to) => {
          from.bytes.copy(bounce.bytes, to, partAt, partAt + part.length);
        });
      }
    }
  } finally {
    node.requests.end(request);
  }
}

/** As writeZeroes, for any area. */
export async function zeroUnaligned(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<void> {
  const request = node.requests.begin(offset, length);
  try {
    await node.requests.serialise(request, node.limits.requestAlignment);
    for (const part of parts(offset, length, node.limits.requestAlignment)) {
      if (part.aligned) {
        await writeZeroesAligned(node, part.offset, part.length, flags);
      } else {
        await readModifyWrite(node, part.offset, part.length, flags, (bounce, to) => {
          bounce.bytes.fill(0, to, to + part.length);
        });
      }
    }
  } finally {
    node.requests.end(request);
  }
}

/** Reads the blocks at the ends of the area, lets `modify` put the new bytes at a place in the buffer, writes all of it. */
async function readModifyWrite(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
  modify: (bounce: IoBuffer, to: number) => void,
): Promise<void> {
  const { requestAlignment } = node.limits;
  const start = alignedDown(offset, requestAlignment);
  const end = alignedUp(offset + length, requestAlignment);
  const size = end - start;
  const bounce = node.pool.take(size);
  const { driver } = node;
  const hasHead = start !== offset;
  const hasTail = end !== offset + length;
  if (size <= 2 * requestAlignment) {
    if (hasHead) driver.debugEvent?.(node, 'pwritev_rmw_head');
    if (hasTail) driver.debugEvent?.(node, 'pwritev_rmw_tail');
    await readNow(node, start, size, bounce, 0, 0);
    if (hasHead) driver.debugEvent?.(node, 'pwritev_rmw_after_head');
    if (hasTail) driver.debugEvent?.(node, 'pwritev_rmw_after_tail');
  } else {
    if (hasHead) {
      driver.debugEvent?.(node, 'pwritev_rmw_head');
      await readNow(node, start, requestAlignment, bounce, 0, 0);
      driver.debugEvent?.(node, 'pwritev_rmw_after_head');
    }
    if (hasTail) {
      const tail = end - requestAlignment;
      driver.debugEvent?.(node, 'pwritev_rmw_tail');
      await readNow(node, tail, requestAlignment, bounce, tail - start, 0);
      driver.debugEvent?.(node, 'pwritev_rmw_after_tail');
    }
  }
  modify(bounce, offset - start);
  await writeNow(node, start, size, bounce, 0, flags);
  node.pool.give(bounce);
}

interface Part {
  readonly offset: number;
  readonly length: number;
  readonly aligned: boolean;
}

/** Head within one block, aligned middle, tail within one block. */
function parts(offset: number, length: number, alignment: number): Part[] {
  const end = offset + length;
  const middle = Math.min(alignedUp(offset, alignment), end);
  const tail = Math.max(alignedDown(end, alignment), middle);
  return [
    { offset, length: middle - offset, aligned: false },
    { offset: middle, length: tail - middle, aligned: true },
    { offset: tail, length: end - tail, aligned: false },
  ].filter((part) => part.length > 0);
}
