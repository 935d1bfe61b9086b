// Whether a request can be carried out at all, before its arguments are decoded.

import { errno } from '../../base/errno.ts';
import type { OperationRow } from './operations.ts';
import { FUSE_ROOT_ID } from './protocol.ts';
import type { FuseRequest } from './wire.ts';

/** Why a request with `length` bytes of arguments must be refused, as an errno, or 0. */
export function refusalOf(
  row: OperationRow | undefined,
  { node }: FuseRequest,
  length: number,
): number {
  if (row === undefined) return errno.ENOSYS;
  // The file is all there is.
  if (node !== FUSE_ROOT_ID && row.node !== 'any') return errno.ESTALE;
  return length < row.arguments ? errno.EIO : 0;
}
