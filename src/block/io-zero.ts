// Writing zeroes in the units the driver works in, with ordinary writes of zeroes where it cannot do better.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { RequestFlags } from './block-driver.ts';
import { FUA, NO_FALLBACK } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { LARGEST_BOUNCE } from './bounce-pool.ts';
import { alignedDown, driverWrite, isNotSupported } from './io-driver.ts';
import { flush } from './io-flush.ts';

/** As writeZeroes in io.ts, for an aligned area, flags filtered, conflicts dealt with. Keeps the books as a write does. */
export async function writeZeroesAligned(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<void> {
  if (node.writeThreshold !== 0) node.passThreshold(offset + length);
  try {
    // As in the reference the books count this as a write that failed.
    if ((flags & NO_FALLBACK & ~node.supportedZeroFlags) !== 0) throw notSupported(offset);
    node.driver.debugEvent?.(node, 'pwritev_zero');
    const needsFlush = await zeroInPieces(node, offset, length, flags);
    if (needsFlush) {
      node.writeGeneration++;
      await flush(node);
    }
  } catch (error) {
    node.failedToWrite(offset, length);
    throw error;
  }
  node.wrote(offset, length);
}

export function notSupported(offset: number): IoError {
  return new IoError(errno.ENOTSUP, { syscall: 'write zeroes', offset });
}

/** Without the books. Answers whether FUA is still owed. */
export async function zeroInPieces(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<boolean> {
  const { limits } = node;
  const alignment = Math.max(limits.zeroAlignment, limits.requestAlignment);
  const largest = alignedDown(limits.maxWriteZeroes || Number.MAX_SAFE_INTEGER, alignment);
  const end = offset + length;
  let needsFlush = false;
  for (let from = offset; from < end; ) {
    // The driver gets the bulk aligned to its unit; the ends go in requests of their own that do not cross one.
    let piece = Math.min(end - from, largest);
    const head = from % alignment;
    if (head !== 0) piece = Math.min(piece, alignment - head);
    else if (piece > alignment) piece = alignedDown(piece, alignment);
    if (await driverZeroes(node, from, piece, flags)) {
      needsFlush ||= (flags & FUA & ~node.supportedZeroFlags) !== 0;
    } else {
      if ((flags & NO_FALLBACK) !== 0) throw notSupported(from);
      needsFlush ||= (flags & FUA & ~node.supportedWriteFlags) !== 0;
      piece = await zeroByWriting(node, from, piece, flags);
    }
    from += piece;
  }
  return needsFlush;
}

/** False when the driver cannot do it this way. */
async function driverZeroes(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<boolean> {
  if (node.driver.writeZeroes === undefined) return false;
  try {
    await node.driver.writeZeroes(node, offset, length, flags & node.supportedZeroFlags);
    return true;
  } catch (error) {
    if (isNotSupported(error)) return false;
    throw error;
  }
}

/** Writes zeroes over the start of the area, as far as one request goes; answers how far. FUA the driver lacks is left out. */
async function zeroByWriting(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<number> {
  const piece = Math.min(length, node.limits.maxTransfer || LARGEST_BOUNCE, LARGEST_BOUNCE);
  const { zeroes } = node.pool;
  await driverWrite(node, offset, piece, zeroes, 0, flags & node.supportedWriteFlags);
  return piece;
}
