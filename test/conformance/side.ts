// The two programs that are compared: how each is started.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../config/shared.ts';
import { findProgram, missing } from '../helpers/reference.ts';

export interface Side {
  readonly name: 'reference' | 'ours';
  readonly command: readonly [string, ...string[]];
}

/** The reference daemon of this machine. Throws where there is none. */
export function reference(): Side {
  const path = findProgram('qemu-storage-daemon');
  if (path === undefined) throw new Error(missing('qemu-storage-daemon'));
  return { name: 'reference', command: [path] };
}

/**
 * Our daemon: the built one, or the sources with `FROM_SOURCE=1` or where nothing is built.
 * `DAEMON` names another program, to see whether a test holds for the reference. */
export function ours(): Side {
  const other = process.env['DAEMON'];
  if (other !== undefined) return { name: 'ours', command: [other] };
  const built = join(root, 'dist/main.js');
  if (existsSync(built) && process.env['FROM_SOURCE'] === undefined) {
    return { name: 'ours', command: [process.execPath, built] };
  }
  const loader = join(root, 'node_modules/tsx/dist/loader.mjs');
  return {
    name: 'ours',
    command: [process.execPath, '--import', loader, join(root, 'src/main.ts')],
  };
}
