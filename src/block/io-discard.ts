// Discarding: advice, passed down in the units the device works in.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { MaybePromise } from '../base/io-buffer.ts';
import type { BlockNode } from './block-node.ts';
import { alignedDown, isNotSupported } from './io-driver.ts';

/** As discard in io.ts, area checked. */
export function discardArea(node: BlockNode, offset: number, length: number): MaybePromise<void> {
  if (node.dirtyBitmaps.length > 0) node.checkBitmapsWritable(offset);
  if (!node.unmap || node.driver.discard === undefined) return undefined;
  if (!node.writable) throw new IoError(errno.EPERM, { syscall: 'discard', offset });
  if (length === 0) return undefined;
  return discardInPieces(node, offset, length);
}

async function discardInPieces(node: BlockNode, offset: number, length: number): Promise<void> {
  const request = node.requests.begin(offset, length);
  try {
    if (node.requests.serialising !== 0) await node.requests.waitForConflicts(request);
    if (node.writeThreshold !== 0) node.passThreshold(offset + length);
    await discardWithin(node, offset, offset + length);
  } finally {
    node.requests.end(request);
    node.discarded(offset, length);
  }
}

/** The driver sees everything, since some devices add up small discards, but cut at its own alignments. */
async function discardWithin(node: BlockNode, offset: number, end: number): Promise<void> {
  const { limits, driver } = node;
  const { requestAlignment } = limits;
  const alignment = Math.max(limits.discardAlignment, requestAlignment);
  const most = limits.maxDiscard || Number.MAX_SAFE_INTEGER;
  // The limit may be below the alignment, which is that of nodes further down.
  const largest = alignedDown(most, most < alignment ? requestAlignment : alignment);
  for (let from = offset; from < end; ) {
    let piece = Math.min(end - from, largest);
    const head = from % alignment;
    if (head !== 0) {
      piece = Math.min(piece, alignment - head);
      if (piece % requestAlignment !== 0) piece %= requestAlignment;
    } else if (piece > alignment) {
      piece = alignedDown(piece, alignment);
    } else if (piece % requestAlignment !== 0 && piece > requestAlignment) {
      piece = alignedDown(piece, requestAlignment);
    }
    try {
      await driver.discard?.(node, from, piece);
    } catch (error) {
      if (!isNotSupported(error)) throw error;
    }
    from += piece;
  }
}
