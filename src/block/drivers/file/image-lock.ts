// Locks on image files, so that two programs do not write one image: the permission model of the graph, carried to other
// processes by open-file-description locks on single bytes. The reference and its tools use the same bytes:
//   100 + n  held by whoever has permission n (1 << n of PERM_*)
//   200 + n  held by whoever does not share permission n
// All are read locks; a conflict is found by asking whether a write lock would be granted on the opposite byte.

import { errno, strerror } from '../../../base/errno.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, lockByte, testLockByte } from '../../../sys/file.ts';
import { PERM_ALL, type Permissions } from '../../block-driver.ts';

const PERM_BASE = 100;
const SHARED_BASE = 200;

const permissionNames = ['consistent read', 'write', 'write unchanged', 'resize'] as const;

/** Which bytes are locked through one descriptor. */
export interface HeldLocks {
  perm: Permissions;
  unshared: Permissions;
}

export function noLocks(): HeldLocks {
  return { perm: 0, unshared: 0 };
}

/** Locks what is missing of (perm, unshared), keeping the rest. Throws QmpError; some bytes may be locked then. */
export function addLocks(
  fd: number,
  held: HeldLocks,
  perm: Permissions,
  unshared: Permissions,
): void {
  for (const [n] of permissionNames.entries()) {
    const bit = 1 << n;
    if ((perm & bit & ~held.perm) === 0) continue;
    lock(fd, PERM_BASE + n);
    held.perm |= bit;
  }
  for (const [n] of permissionNames.entries()) {
    const bit = 1 << n;
    if ((unshared & bit & ~held.unshared) === 0) continue;
    lock(fd, SHARED_BASE + n);
    held.unshared |= bit;
  }
}

/** Unlocks what is not in (perm, unshared). Unlocking cannot fail but for the file system's own reasons, which help nobody. */
export function dropLocks(
  fd: number,
  held: HeldLocks,
  perm: Permissions,
  unshared: Permissions,
): void {
  for (const [n] of permissionNames.entries()) {
    const bit = 1 << n;
    if ((held.perm & bit & ~perm) !== 0) lockByte(fd, PERM_BASE + n, F_UNLCK);
    if ((held.unshared & bit & ~unshared) !== 0) lockByte(fd, SHARED_BASE + n, F_UNLCK);
  }
  held.perm &= perm;
  held.unshared &= unshared;
}

/** Throws QmpError when another holder has or refuses what (perm, shared) needs. `path` is for the hint. */
export function checkLocks(fd: number, perm: Permissions, shared: Permissions, path: string): void {
  for (const [n, name] of permissionNames.entries()) {
    if ((perm & (1 << n)) !== 0) test(fd, SHARED_BASE + n, `"${name}" lock`, path);
  }
  for (const [n, name] of permissionNames.entries()) {
    if ((PERM_ALL & ~shared & (1 << n)) !== 0) {
      test(fd, PERM_BASE + n, `shared "${name}" lock`, path);
    }
  }
}

function lock(fd: number, at: number): void {
  const result = lockByte(fd, at, F_RDLCK);
  if (result < 0) throw refused(`Failed to lock byte ${at}`, -result);
}

function test(fd: number, at: number, what: string, path: string): void {
  const result = testLockByte(fd, at, F_WRLCK);
  if (result < 0) {
    throw refused(
      `Failed to get ${what}`,
      -result,
      `Is another process using the image [${path}]?`,
    );
  }
}

/** That somebody else has the lock goes without saying; other reasons are given. */
function refused(message: string, code: number, hint?: string): QmpError {
  const conflict = code === errno.EAGAIN || code === errno.EACCES;
  const desc = conflict ? message : `${message}: ${strerror(code)}`;
  return new QmpError(desc, hint === undefined ? {} : { hint });
}
