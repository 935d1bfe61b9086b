// What format a file has whose user did not say: looked up in its first bytes.

import { closeSync, constants, openSync, readSync } from 'node:fs';
import { isOneOf } from '../../../sys/file.ts';
import type { OpenContext } from '../../driver-context.ts';

/** `QFI\xfb`, then the version. */
const MAGIC = 0x514649fb;

/** The format of the file at `path`; `raw` when it is none of ours, or cannot be read: opening it says why. */
export function readProbe(path: string, context: OpenContext): 'qcow2' | 'raw' {
  const start = Buffer.alloc(8);
  if (isOneOf(path, context.servedFiles)) return 'raw';
  try {
    // Without waiting: a pipe may be anybody's file name.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      readSync(fd, start, 0, start.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    context.log.debug(`Could not probe '${path}': ${String(error)}`);
    return 'raw';
  }
  return start.readUInt32BE(0) === MAGIC && start.readUInt32BE(4) >= 2 ? 'qcow2' : 'raw';
}
