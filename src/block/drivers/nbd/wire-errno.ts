// Errors of the wire as errnos of the data path. The protocol's list is closed: what is not on it means EINVAL.

import { errno } from '../../../base/errno.ts';
import {
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from '../../../net/nbd/protocol.ts';

const errnos: ReadonlyMap<number, number> = new Map<number, number>([
  [NBD_EPERM, errno.EPERM],
  [NBD_EIO, errno.EIO],
  [NBD_ENOMEM, errno.ENOMEM],
  [NBD_ENOSPC, errno.ENOSPC],
  [NBD_EOVERFLOW, errno.EOVERFLOW],
  [NBD_ENOTSUP, errno.ENOTSUP],
  [NBD_ESHUTDOWN, errno.ESHUTDOWN],
]);

/** The errno for an NBD error other than NBD_SUCCESS. */
export function errnoOf(error: number): number {
  return errnos.get(error) ?? errno.EINVAL;
}
