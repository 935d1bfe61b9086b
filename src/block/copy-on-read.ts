// Copying what a node does not have itself from its backing files into it, before it is read there.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { MaybePromise } from '../base/io-buffer.ts';
import { WRITE_UNCHANGED } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { allocationDepth, chainOf } from './block-status.ts';
import { LARGEST_BOUNCE } from './bounce-pool.ts';
import { imageState } from './image-state.ts';
import { readNow } from './io-aligned.ts';
import { alignedDown, alignedUp, driverWrite } from './io-driver.ts';
import { zeroInPieces } from './io-zero.ts';
import { isZero } from './is-zero.ts';

export interface CopyOnReadArea {
  readonly offset: number;
  readonly length: number;
  /** The last of the backing chain that is copied from; undefined for all of it, and what is allocated nowhere. */
  readonly bottom?: BlockNode | undefined;
}

/**
 * Makes the node have the area itself, so that no backing file is needed to read it. Does nothing for an inactive node. Throws
 * or rejects IoError, EPERM for a read-only node.
 */
export function copyOnRead(node: BlockNode, area: CopyOnReadArea): MaybePromise<void> {
  if (!node.active) return undefined;
  const { offset, length } = area;
  const found = allocationDepth(node, offset, length);
  if (!(found instanceof Promise) && found.depth === 1 && found.length === length) return undefined;
  return copyMissing(node, area);
}

async function copyMissing(
  node: BlockNode,
  { offset, length, bottom }: CopyOnReadArea,
): Promise<void> {
  const deepest = bottom === undefined ? undefined : [...chainOf(node)].indexOf(bottom) + 1;
  const isCopied = (depth: number): boolean =>
    deepest === undefined ? depth !== 1 : depth > 1 && depth <= deepest;
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const found = await allocationDepth(node, at, end - at);
    if (found.length === 0) return;
    if (isCopied(found.depth)) await copyArea(node, at, at + found.length);
    at += found.length;
  }
}

/** Copies whole clusters, a piece at a time. */
async function copyArea(node: BlockNode, start: number, end: number): Promise<void> {
  if (node.readOnly) throw new IoError(errno.EPERM, { syscall: 'write', offset: start });
  const { requestAlignment, maxTransfer } = node.limits;
  const unit = Math.max(imageState(node)?.clusterSize ?? 0, requestAlignment);
  const largest = Math.min(LARGEST_BOUNCE, maxTransfer || LARGEST_BOUNCE);
  const last = Math.min(alignedUp(end, unit), alignedUp(node.length, requestAlignment));
  for (let at = alignedDown(start, unit); at < last; at += largest) {
    await copyPiece(node, at, Math.min(largest, last - at));
  }
}

/** Nobody else is in the area meanwhile, so that what is written is what is read. */
async function copyPiece(node: BlockNode, offset: number, length: number): Promise<void> {
  const { requests, pool } = node;
  const request = requests.begin(offset, length);
  const buffer = pool.take(length);
  try {
    await requests.serialise(request, 1);
    await readNow(node, offset, length, buffer, 0, 0);
    node.driver.debugEvent?.(node, 'cor_write');
    // What a guest sees stays the same: no dirty bitmap notes it.
    if (isZero(buffer, 0, length, pool.zeroes)) {
      await zeroInPieces(node, offset, length, WRITE_UNCHANGED);
    } else {
      await driverWrite(node, offset, length, buffer, 0, WRITE_UNCHANGED);
    }
    node.writeGeneration++;
    pool.give(buffer);
  } finally {
    requests.end(request);
  }
}
