// Whether what a server offers is good enough for a node, at first and after a reconnection, and what follows from it for the
// node. Errors are the reference's: it tells no more than an errno.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import {
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../../net/nbd/protocol.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { FUA, MAY_UNMAP, NO_FALLBACK, PERM_WRITE } from '../../block-driver.ts';
import type { BlockNode } from '../../block-node.ts';
import { alignmentOf } from './limits.ts';
import type { ServerInfo } from './negotiation.ts';
import type { NbdOptions } from './options.ts';

/** What requests that are made, or wait, may count on. */
const LASTING_FLAGS = NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;

/** `before` is what the server offered last. Throws IoError, or QmpError for what is wrong after a reconnection. */
export function acceptServer(
  node: BlockNode,
  wanted: NbdOptions,
  info: ServerInfo,
  before: ServerInfo | undefined,
): void {
  if (wanted.dirtyBitmap !== undefined && info.contextId === undefined) {
    throw new IoError(errno.EINVAL, { syscall: 'NBD handshake' });
  }
  if (before !== undefined) refuseLess(info, before);
  if ((info.flags & NBD_FLAG_READ_ONLY) !== 0 && !node.readOnly) {
    if (!node.autoReadOnly || (node.perm & PERM_WRITE) !== 0) {
      throw new IoError(errno.EACCES, { syscall: 'NBD handshake' });
    }
    node.readOnly = true;
  }
  node.supportedWriteFlags = flagIf(info, NBD_FLAG_SEND_FUA, FUA);
  node.supportedZeroFlags = node.supportedWriteFlags;
  if ((info.flags & NBD_FLAG_SEND_WRITE_ZEROES) !== 0) {
    node.supportedZeroFlags |= MAY_UNMAP | flagIf(info, NBD_FLAG_SEND_FAST_ZERO, NO_FALLBACK);
  }
}

/** The node keeps its size and its limits, and requests that wait for the connection were made for the old one. */
function refuseLess(info: ServerInfo, before: ServerInfo): void {
  const isLess =
    info.size < before.size ||
    alignmentOf(info) > alignmentOf(before) ||
    (before.maxBlock !== 0 && info.maxBlock < before.maxBlock && info.maxBlock !== 0) ||
    (before.maxBlock === 0 && info.maxBlock !== 0) ||
    (before.headers === 'extended' && info.headers !== 'extended') ||
    (before.flags & ~info.flags & LASTING_FLAGS) !== 0;
  if (isLess) throw new QmpError('The server offers less than before');
}

function flagIf(info: ServerInfo, offered: number, flag: number): number {
  return (info.flags & offered) === 0 ? 0 : flag;
}
