// Putting a file system of one file in the place of a file, and taking it away: by mount(2) for who may, otherwise through
// fusermount3. From the mounting on its path is for others: to look at it would be to wait for ourselves.

import { errno, strerror } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { setStatusFlags, statusFlags } from '../../sys/descriptor.ts';
import { closeFile, O_NONBLOCK, O_RDWR, openFile } from '../../sys/file.ts';
import { FusermountError, mountByProgram } from '../../sys/fusermount.ts';
import { mountLater } from '../../sys/mount.ts';
import { detach, readTable, topMount, topOf } from '../../sys/unmount.ts';
import { S_IFREG } from './fuse-file.ts';

const DEVICE = '/dev/fuse';
const TYPE = 'fuse';

/** Largest read, as the reference gives it; what is negotiated afterwards is less. */
const MAX_READ = 64 * 1024 * 1024;

export interface FuseMount {
  /** Of /dev/fuse; whoever asked for the mount closes it. */
  readonly fd: number;
  /** In the mount table; undefined where that cannot be read. */
  readonly id: number | undefined;
  readonly target: string;
}

/** Why mounting failed, in words. */
export class MountError extends Error {
  override readonly name = 'MountError';
}

/** Mounts in the place of the file at `target`, an absolute path. Rejects MountError. */
export async function mountFuse(
  target: string,
  {
    allowOther,
    uid,
    gid,
  }: { readonly allowOther: boolean; readonly uid: number; readonly gid: number },
): Promise<FuseMount> {
  const options = `max_read=${MAX_READ},default_permissions${allowOther ? ',allow_other' : ''}`;
  const own = `rootmode=${S_IFREG.toString(8)},user_id=${uid},group_id=${gid}`;
  let fd = await mountDirectly(target, `${options},${own}`);
  try {
    fd ??= await mountByProgram(target, options);
  } catch (error) {
    if (error instanceof FusermountError) throw new MountError(error.message);
    throw error;
  }
  setStatusFlags(fd, statusFlags(fd) | O_NONBLOCK);
  return { fd, id: (await topMount(target))?.id, target };
}

/** The descriptor, or undefined when this process may not mount. Rejects MountError. */
async function mountDirectly(target: string, options: string): Promise<number | undefined> {
  let fd: number;
  try {
    fd = openFile(DEVICE, O_RDWR);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    if (error.errno === errno.EACCES || error.errno === errno.EPERM) return undefined;
    throw new MountError(`Cannot open ${DEVICE}: ${error.reason}`);
  }
  const result = await mountLater({
    source: DEVICE,
    target,
    type: TYPE,
    options: `${options},fd=${fd}`,
  });
  if (result === 0) return fd;
  closeFile(fd);
  if (result === -errno.EPERM) return undefined;
  throw new MountError(`Cannot mount on '${target}': ${strerror(-result)}`);
}

/** Takes the mount away at once, wherever it is by now; files of it that are open go on until it is aborted. Never rejects. */
export async function unmountFuse({ id, target }: FuseMount): Promise<void> {
  const table = await readTable();
  const mounted = table.find((entry) => entry.id === id);
  // Somebody else has unmounted it.
  if (id !== undefined && table.length > 0 && mounted === undefined) return;
  const path = mounted?.target ?? target;
  // What covers it is not ours to take away.
  if (id !== undefined && table.length > 0 && topOf(table, path)?.id !== id) return;
  await detach(path);
}
