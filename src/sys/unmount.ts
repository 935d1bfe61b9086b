// Taking mounts away, through fusermount3 where this process may not do it itself, and finding out what is mounted on a path. All
// of it runs in the thread pool or in another process, as mount.ts.

import { errno } from '../base/errno.ts';
import { resolvedPath } from './file.ts';
import { detachByProgram, FusermountError } from './fusermount.ts';
import { detachLater, type MountEntry, mountTable } from './mount.ts';

/** What the kernel calls file systems over FUSE, and their source where whoever mounted one gave it no name. */
const TYPE = 'fuse';
const SOURCE = '/dev/fuse';

/** Takes the mount out of the tree at once; files of it that are open go on. True when that was done. */
export async function detach(target: string): Promise<boolean> {
  const result = await detachLater(target);
  if (result !== -errno.EPERM) return result === 0;
  try {
    await detachByProgram(target);
    return true;
  } catch (error) {
    if (error instanceof FusermountError) return false;
    throw error;
  }
}

/**
 * Takes away what a storage daemon left in the place of the file `path` that ended without unmounting, ours or the reference.
 * The caller has seen that nobody serves it (ENOTCONN). True when there was something. Throws IoError.
 */
export async function clearDeadMount(path: string): Promise<boolean> {
  const target = resolvedPath(path);
  const entry = await topMount(target);
  return entry?.type === TYPE && entry.source === SOURCE && (await detach(target));
}

/** What is seen at `target`, an absolute path without symbolic links. */
export async function topMount(target: string): Promise<MountEntry | undefined> {
  return topOf(await readTable(), target);
}

export function topOf(table: readonly MountEntry[], target: string): MountEntry | undefined {
  return table.findLast((entry) => entry.target === target);
}

/** Empty where there is no /proc. */
export async function readTable(): Promise<readonly MountEntry[]> {
  try {
    return await mountTable();
  } catch {
    return [];
  }
}
