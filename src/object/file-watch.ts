// Notices when files of a directory change, be it in place or, as careful programs do it, by another file taking the name.

import { type FSWatcher, watch } from 'node:fs';

/** Milliseconds of quiet after which changes are told of, once for all: files that belong together change together. */
const QUIET_MS = 50;

/**
 * Calls `onChange` after files in `directory` of which `concerns` says so have changed. Answers what ends it.
 *
 * @throws the system's error when the directory cannot be watched
 */
export function watchFiles(
  directory: string,
  concerns: (name: string) => boolean,
  onChange: () => void,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  const watcher: FSWatcher = watch(directory, { persistent: false }, (_event, name) => {
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
