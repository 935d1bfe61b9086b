// The files of unix sockets: making room for one, naming temporary ones, and knowing one's own again.

import { closeSync, lstatSync, openSync, unlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { failure } from './system-error.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const MAX_ATTEMPTS = 100;

/** A socket's file, to be found again from any working directory. */
export interface SocketFile {
  readonly path: string;
  readonly identity: string;
}

/** Removes whatever is at `path`, as the reference does: a stale socket, a live one, a regular file. */
export function makeRoom(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw failure(`Failed to unlink socket ${path}`, error);
  }
}

/** A free path for a socket that was given none: `/tmp/qemu-socket-XXXXXX`. */
export function temporaryPath(): string {
  const pattern = `${process.env['TMPDIR'] || '/tmp'}/qemu-socket-XXXXXX`;
  let last: unknown;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const path = pattern.slice(0, -6) + randomLetters(6);
    try {
      closeSync(openSync(path, 'wx', 0o600));
      return path;
    } catch (error) {
      last = error;
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') break;
    }
  }
  throw failure(`Failed to make a temporary socket ${pattern}`, last);
}

/** The file at `path` now, or undefined when there is none. */
export function socketFileAt(path: string): SocketFile | undefined {
  const absolute = resolve(path);
  const identity = identityOf(absolute);
  return identity === undefined ? undefined : { path: absolute, identity };
}

/** Removes the file, unless something else has taken its place meanwhile. */
export function removeSocketFile(file: SocketFile): void {
  if (identityOf(file.path) !== file.identity) return;
  try {
    unlinkSync(file.path);
  } catch {
    // Gone already, or the directory may not be written any more: nothing is left to do about it.
  }
}

function identityOf(path: string): string | undefined {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status === undefined ? undefined : `${status.dev}:${status.ino}`;
}

function randomLetters(count: number): string {
  return Array.from({ length: count }, () =>
    LETTERS.charAt(Math.floor(Math.random() * LETTERS.length)),
  ).join('');
}
