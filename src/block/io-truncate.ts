// Changing a node's length.

import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { TruncateOptions } from './block-driver.ts';
import { ZERO_WRITE } from './block-driver.ts';
import { type BlockNode, SECTOR } from './block-node.ts';
import { alignedDown } from './io-driver.ts';
import { resizeError } from './resize-error.ts';

/** The longest that a node can be: numbers are exact up to there. */
const LARGEST = alignedDown(Number.MAX_SAFE_INTEGER, SECTOR);

/** Sets the length (bytes). Throws QmpError with the reference's text; the user must hold PERM_RESIZE. */
export async function truncate(
  node: BlockNode,
  length: number,
  options: TruncateOptions,
): Promise<void> {
  if (length < 0) throw resizeError('Image size cannot be negative', errno.EINVAL);
  if (length > LARGEST) {
    throw resizeError(`offset(${length}) exceeds maximum(${LARGEST})`, errno.EFBIG);
  }
  const oldLength = node.length;
  if (node.readOnly) throw resizeError('Image is read-only', errno.EACCES);
  if (!node.active) throw resizeError('Image is inactive', errno.EPERM);
  const grown = Math.max(0, length - oldLength);
  const request = node.requests.begin(length - grown, grown);
  try {
    // A grown area may be preallocated: nothing may be written to it meanwhile.
    if (grown > 0) await node.requests.serialise(request, 1);
    const hidesBacking = grown > 0 && (node.backing?.node.length ?? 0) > oldLength;
    const flags = hidesBacking ? options.flags | ZERO_WRITE : options.flags;
    await truncateDriver(node, length, { ...options, flags });
    node.truncated();
  } catch (error) {
    if (error instanceof IoError) {
      throw new QmpError(`Failed to resize: ${strerror(error.errno)}`, { cause: error });
    }
    throw error;
  } finally {
    node.requests.end(request);
  }
}

async function truncateDriver(
  node: BlockNode,
  length: number,
  options: TruncateOptions,
): Promise<void> {
  if (node.driver.truncate !== undefined) {
    if ((options.flags & ~node.supportedTruncateFlags) !== 0) {
      throw resizeError('Block driver does not support requested flags', errno.ENOTSUP);
    }
    await node.driver.truncate(node, length, options);
    return;
  }
  if (node.filtered !== undefined) return truncate(node.filtered.node, length, options);
  throw resizeError('Image format driver does not support resize', errno.ENOTSUP);
}
