// Notices when files of a directory change, be it in place or, as careful programs do it, by another file taking the name.

import { type FSWatcher, type WatchListener, watch } from 'node:fs';
import { errnoOf, strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';

/** Milliseconds of quiet after which changes are told of, once for all: files that belong together change together. */
const QUIET_MS = 50;

/**
 * Calls `onChange` after files in `directory` of which `concerns` says so have changed. Answers what ends it.
 *
 * @throws QmpError when the directory cannot be watched
 */
export function watchFiles(
  directory: string,
  concerns: (name: string) => boolean,
  onChange: () => void,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  const watcher = watcherOf(directory, (_event, name) => {
    if (name !== null && !concerns(name)) return;
    clearTimeout(timer);
    timer = setTimeout(onChange, QUIET_MS);
    timer.unref();
  });
  // The directory is gone: nothing changes any more.
  watcher.on('error', () => {});
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}

function watcherOf(directory: string, listener: WatchListener<string>): FSWatcher {
  try {
    return watch(directory, { persistent: false }, listener);
  } catch (error) {
    const reason = strerror(errnoOf(error));
    throw new QmpError(`Unable to watch '${directory}': ${reason}`, { cause: error });
  }
}
