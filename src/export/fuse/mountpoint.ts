// The files in whose places something is exported: whether one will do, and which are taken.

import { stat } from 'node:fs/promises';
import { errno, errnoOf, strerror } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { QmpError } from '../../qapi/errors.ts';
import { resolvedPath } from '../../sys/file.ts';
import { clearDeadMount } from '../../sys/unmount.ts';

/** Dead mounts on one path that are taken away, one after the other. */
const MAX_DEAD = 16;

/** The mountpoints of all exports, by absolute path without symbolic links. */
export class Mountpoints {
  readonly #taken: Set<string>;

  /** `taken`: where they are noted, for others to know. */
  constructor(taken: Set<string>) {
    this.#taken = taken;
  }

  /**
   * Takes the file that the user names: its absolute path without symbolic links. Looks at it only after it is sure that it is
   * not ours. What a daemon that was killed has left there is taken away. Rejects QmpError.
   */
  async take(given: string): Promise<string> {
    const resolved = resolve(given);
    if (this.#taken.has(resolved)) {
      throw new QmpError(`There already is a FUSE export on '${given}'`);
    }
    this.#taken.add(resolved);
    try {
      await requireRegularFile(given, resolved);
      return resolved;
    } catch (error) {
      this.#taken.delete(resolved);
      throw error;
    }
  }

  give(resolved: string): void {
    this.#taken.delete(resolved);
  }
}

function resolve(given: string): string {
  try {
    return resolvedPath(given);
  } catch (error) {
    if (error instanceof IoError) throw cannotStat(given, error.errno);
    throw error;
  }
}

async function requireRegularFile(given: string, resolved: string): Promise<void> {
  for (let dead = 0; ; dead++) {
    try {
      // In the thread pool: if it is ours after all, we are there to answer.
      const status = await stat(resolved);
      if (!status.isFile()) throw new QmpError(`'${given}' is not a regular file`);
      return;
    } catch (error) {
      if (error instanceof QmpError) throw error;
      const code = errnoOf(error);
      const gone = code === errno.ENOTCONN && dead < MAX_DEAD && (await clearDeadMount(resolved));
      if (!gone) throw cannotStat(given, code);
    }
  }
}

function cannotStat(given: string, code: number): QmpError {
  return new QmpError(`Failed to stat '${given}': ${strerror(code)}`);
}
