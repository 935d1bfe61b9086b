// FUSE_SETATTR: the length, and rights as far as they can take effect. All is checked before anything is changed.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { type FuseFile, S_IFREG } from './fuse-file.ts';
import {
  FATTR_FH,
  FATTR_GID,
  FATTR_LOCKOWNER,
  FATTR_MODE,
  FATTR_SIZE,
  FATTR_UID,
} from './protocol.ts';
import type { SetattrRequest } from './wire.ts';

const OWNERS = FATTR_UID | FATTR_GID;
const REMARKS = FATTR_FH | FATTR_LOCKOWNER;

const PERMISSION_BITS = 0o7777;
const ANYONE_ELSE = 0o077;
const ANY_WRITE = 0o222;

/** Why it must be refused, as an errno, or 0. */
export function refusal(
  { valid, mode }: SetattrRequest,
  { allowOther, writable }: Pick<FuseFile, 'allowOther' | 'writable'>,
): number {
  const possible = FATTR_SIZE | FATTR_MODE | REMARKS | (allowOther ? OWNERS : 0);
  // Times among what is left: they are always those of now.
  if ((valid & ~possible) !== 0) return errno.ENOTSUP;
  if ((valid & FATTR_MODE) !== 0) {
    if (!allowOther && (mode & ANYONE_ELSE) !== 0) return errno.EPERM;
    if (!writable && (mode & ANY_WRITE) !== 0) return errno.EROFS;
  }
  if ((valid & FATTR_SIZE) !== 0 && !writable) return errno.EACCES;
  return 0;
}

/** Throws or rejects IoError. */
export function setAttributes(file: FuseFile, asked: SetattrRequest): void | Promise<void> {
  const refused = refusal(asked, file);
  if (refused !== 0) throw new IoError(refused, { syscall: 'setattr' });
  if ((asked.valid & FATTR_SIZE) === 0) return setRights(file, asked);
  return file.resizing(() => file.setLength(asked.size)).then(() => setRights(file, asked));
}

function setRights(file: FuseFile, { valid, mode, uid, gid }: SetattrRequest): void {
  if ((valid & FATTR_MODE) !== 0) file.mode = S_IFREG | (mode & PERMISSION_BITS);
  if ((valid & FATTR_UID) !== 0) file.uid = uid;
  if ((valid & FATTR_GID) !== 0) file.gid = gid;
}
