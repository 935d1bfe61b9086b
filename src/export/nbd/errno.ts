// The one place where an errno of the data path becomes an error of the wire. The list is closed: what the protocol has no
// number for is EINVAL.

import { errno } from '../../base/errno.ts';
import {
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from '../../net/nbd/protocol.ts';

const wireErrors: ReadonlyMap<number, number> = new Map<number, number>([
  [errno.EPERM, NBD_EPERM],
  [errno.EROFS, NBD_EPERM],
  [errno.EIO, NBD_EIO],
  [errno.ENOMEM, NBD_ENOMEM],
  [errno.EDQUOT, NBD_ENOSPC],
  [errno.EFBIG, NBD_ENOSPC],
  [errno.ENOSPC, NBD_ENOSPC],
  [errno.EOVERFLOW, NBD_EOVERFLOW],
  [errno.ENOTSUP, NBD_ENOTSUP],
  [errno.ESHUTDOWN, NBD_ESHUTDOWN],
]);

/** The NBD error for a failure's errno. */
export function wireErrorOf(number: number): number {
  return wireErrors.get(number) ?? NBD_EINVAL;
}
