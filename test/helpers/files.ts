// Waiting for what a daemon does in the file system, without asking again and again.

import { existsSync, readFileSync, watch } from 'node:fs';
import path from 'node:path';

/** Resolves once `file` is there with something in it. */
export function fileWritten(file: string): Promise<void> {
  return directoryChanged(file, () => existsSync(file) && readFileSync(file).length > 0);
}

/** Resolves once there is something at `file`. */
export function fileThere(file: string): Promise<void> {
  return directoryChanged(file, () => existsSync(file));
}

/** Resolves once there is nothing at `file`. */
export function fileGone(file: string): Promise<void> {
  return directoryChanged(file, () => !existsSync(file));
}

/** Resolves once `isSo`, which is asked after each change in the directory of `file`. */
async function directoryChanged(file: string, isSo: () => boolean): Promise<void> {
  const watcher = watch(path.dirname(file));
  try {
    await new Promise<void>((resolve) => {
      watcher.on('change', () => {
        if (isSo()) resolve();
      });
      if (isSo()) resolve();
    });
  } finally {
    watcher.close();
  }
}
