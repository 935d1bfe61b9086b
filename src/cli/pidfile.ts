// --pidfile: written when everything is ready, locked for as long as the daemon runs, removed when it ends.

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  realpathSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import { lockWholeFile } from '../sys/process.ts';

const OWNER_READ_WRITE = 0o600;

export interface Pidfile {
  /** Unlinks the file; the lock goes with the process. */
  remove(): void;
}

/** Writes this process's id to `path`. Throws QmpError, as the command line reports it. */
export function createPidfile(path: string): Pidfile {
  const fd = openLocked(path);
  try {
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid}\n`);
    const resolved = realpathSync(path);
    return { remove: () => unlinkIfThere(resolved) };
  } catch (error) {
    unlinkIfThere(path);
    throw failure(`Failed to write pid file`, error);
  }
}

/** The file, locked, and the one that `path` names: another process may have replaced it meanwhile. */
function openLocked(path: string): number {
  for (;;) {
    const fd = open(path);
    try {
      lockWholeFile(fd);
      const named = statSync(path, { throwIfNoEntry: false });
      if (named !== undefined && named.ino === fstatSync(fd).ino) return fd;
    } catch (error) {
      closeSync(fd);
      throw failure('Cannot lock pid file', error);
    }
    closeSync(fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_CREAT, OWNER_READ_WRITE);
  } catch (error) {
    throw failure(`Could not create '${path}'`, error);
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function failure(what: string, error: unknown): QmpError {
  const reason = error instanceof IoError ? error.reason : errnoText(error);
  return new QmpError(`cannot create PID file: ${what}: ${reason}`, { cause: error });
}

function errnoText(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException;
  return errno === undefined ? message : strerror(-errno);
}
