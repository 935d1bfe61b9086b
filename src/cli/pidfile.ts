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
  /** Unlinks the file if it is still ours; the lock goes with the process. Never throws. */
  remove(): void;
}

/** Writes this process's id to `path`. Throws QmpError, as the command line reports it. */
export function createPidfile(path: string): Pidfile {
  const fd = openLocked(path);
  try {
    truncate(fd);
    write(fd, `${process.pid}\n`);
    const resolved = realpathSync(path);
    return { remove: () => removeIfOurs(resolved, fd) };
  } catch (error) {
    removeIfOurs(path, fd);
    throw error;
  }
}

function truncate(fd: number): void {
  try {
    ftruncateSync(fd, 0);
  } catch (error) {
    throw failure('Failed to truncate pid file', error);
  }
}

/** The reference does not say why. */
function write(fd: number, text: string): void {
  try {
    writeSync(fd, text);
  } catch (error) {
    throw new QmpError('cannot create PID file: Failed to write pid file', { cause: error });
  }
}

/** The file, locked, and the one that `path` names: another process may have replaced it meanwhile. */
function openLocked(path: string): number {
  for (;;) {
    const fd = open(path);
    try {
      lockWholeFile(fd);
      if (isNamed(path, fd)) return fd;
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

/** Whether `path` is a name of the open file. */
function isNamed(path: string, fd: number): boolean {
  const named = statSync(path, { throwIfNoEntry: false });
  const { dev, ino } = fstatSync(fd);
  return named !== undefined && named.ino === ino && named.dev === dev;
}

/** Not a device, as the reference would: it was there before. */
function removeIfOurs(path: string, fd: number): void {
  try {
    if (isNamed(path, fd) && fstatSync(fd).isFile()) unlinkSync(path);
  } catch {
    // Its directory is out of reach, or may not be written any more: nothing is left to do about it.
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
