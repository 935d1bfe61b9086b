// What a server can do at once, as limits of the block layer.

import { NBD_MAX_BUFFER_SIZE } from '../../../net/nbd/protocol.ts';
import type { BlockLimits } from '../../block-driver.ts';
import { SECTOR } from '../../block-node.ts';
import type { ServerInfo } from './negotiation.ts';

/** Bytes that one request without data may be about, as in the reference. */
export const LARGEST_LENGTH = 2 ** 31 - 1;

/**
 * The alignment of requests. Where the server does not say: an export that is not whole sectors, or has block status, which may
 * change anywhere, can be addressed by the byte; otherwise it is likely to be an old server, for which sectors are safer.
 */
export function alignmentOf({ minBlock, size, contextId }: ServerInfo): number {
  if (minBlock !== 0) return minBlock;
  return size % SECTOR !== 0 || contextId !== undefined ? 1 : SECTOR;
}

export function setLimits(limits: BlockLimits, info: ServerInfo): void {
  const alignment = alignmentOf(info);
  const largest = Math.min(info.maxBlock || NBD_MAX_BUFFER_SIZE, NBD_MAX_BUFFER_SIZE);
  limits.requestAlignment = alignment;
  limits.maxTransfer = largest;
  limits.optTransfer = Math.max(limits.optTransfer, info.optBlock);
  if (info.headers === 'extended') return;
  limits.maxWriteZeroes = largest;
  limits.maxDiscard = LARGEST_LENGTH - (LARGEST_LENGTH % alignment);
}
