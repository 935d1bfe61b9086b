// Reads and writes that fit the node's alignment: conflicts, limits, zeroes in the data, and the books of writes.

import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { RequestFlags } from './block-driver.ts';
import { FUA, MAY_UNMAP } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import {
  alignedUp,
  conflicts,
  driverWrite,
  MAX_REQUEST,
  tracked,
  trackedAfterConflicts,
} from './io-driver.ts';
import { writeZeroesAligned } from './io-zero.ts';
import { isZero } from './is-zero.ts';

/** As read in io.ts, for an aligned area. */
export function readAligned(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  flags: RequestFlags,
): MaybePromise<void> {
  if (conflicts(node, offset, length)) {
    return trackedAfterConflicts(node, offset, length, () =>
      readNow(node, offset, length, into, at, flags),
    );
  }
  const later = readNow(node, offset, length, into, at, flags);
  return later === undefined ? undefined : tracked(node, offset, length, later);
}

/** As write in io.ts, for an aligned area. */
export function writeAligned(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
): MaybePromise<void> {
  if (conflicts(node, offset, length)) {
    return trackedAfterConflicts(node, offset, length, () =>
      writeNow(node, offset, length, from, at, flags),
    );
  }
  const later = writeNow(node, offset, length, from, at, flags);
  return later === undefined ? undefined : tracked(node, offset, length, later);
}

/** Reads without looking for conflicts: for aligned requests that are tracked already. */
export function readNow(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  flags: RequestFlags,
): MaybePromise<void> {
  const max = node.limits.maxTransfer;
  if ((max !== 0 && length > max) || offset + length > node.length) {
    return readInPieces(node, offset, length, into, at, flags);
  }
  return node.driver.read(node, offset, length, into, at, flags & node.supportedReadFlags);
}

/** Writes without looking for conflicts, and keeps the books: generation, highest offset, growth. */
export function writeNow(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
): MaybePromise<void> {
  if (node.writeThreshold !== 0) node.passThreshold(offset + length);
  if (
    node.detectZeroes !== 'off' &&
    node.driver.writeZeroes !== undefined &&
    isZero(from, at, length, node.pool.zeroes)
  ) {
    const unmap = node.detectZeroes === 'unmap' ? MAY_UNMAP : 0;
    return writeZeroesAligned(node, offset, length, flags | unmap);
  }
  node.driver.debugEvent?.(node, 'pwritev');
  const max = node.limits.maxTransfer;
  let later: MaybePromise<void>;
  try {
    later =
      max === 0 || length <= max
        ? driverWrite(node, offset, length, from, at, flags)
        : writeInPieces(node, offset, length, from, at, flags);
  } catch (error) {
    node.failedToWrite(offset, length);
    throw error;
  }
  if (later === undefined) {
    node.driver.debugEvent?.(node, 'pwritev_done');
    return node.wrote(offset, length);
  }
  return afterWrite(node, offset, length, later);
}

async function afterWrite(
  node: BlockNode,
  offset: number,
  length: number,
  later: Promise<void>,
): Promise<void> {
  try {
    await later;
  } catch (error) {
    node.failedToWrite(offset, length);
    throw error;
  } finally {
    node.driver.debugEvent?.(node, 'pwritev_done');
  }
  node.wrote(offset, length);
}

/** At the driver's limit, and with zeroes for what lies beyond the node's end. */
async function readInPieces(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  flags: RequestFlags,
): Promise<void> {
  const { requestAlignment } = node.limits;
  const max = node.limits.maxTransfer || MAX_REQUEST;
  const available = Math.max(0, node.length - offset);
  const readable = Math.min(length, alignedUp(available, requestAlignment));
  for (let done = 0; done < readable; done += max) {
    const piece = Math.min(max, readable - done);
    await node.driver.read(
      node,
      offset + done,
      piece,
      into,
      at + done,
      flags & node.supportedReadFlags,
    );
  }
  into.bytes.fill(0, at + readable, at + length);
}

async function writeInPieces(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
): Promise<void> {
  const max = node.limits.maxTransfer;
  // One flush at the end does for all pieces.
  const early = flags & (node.supportedWriteFlags | ~FUA);
  for (let done = 0; done < length; done += max) {
    const piece = Math.min(max, length - done);
    const last = done + piece === length;
    await driverWrite(node, offset + done, piece, from, at + done, last ? flags : early);
  }
}
