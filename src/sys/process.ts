// What the daemon asks the kernel about itself: session, descriptors, signals, the pidfile's lock.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { errnoNow, libc } from './libc.ts';

const F_SETLK = 6;
const F_WRLCK = 1;

/** Makes `target` another name of `fd`, closing what `target` was. */
export function dup2(fd: number, target: number): void {
  if (libc.dup2(fd, target) < 0) throw failed('dup2');
}

/** Leaves the terminal: a new session with this process as its leader. */
export function setsid(): void {
  if (libc.setsid() < 0) throw failed('setsid');
}

/** Pid of the parent now (node's process.ppid asks too, but only it changes when the parent dies). */
export function getppid(): number {
  return libc.getppid();
}

/** Sends a signal by number; 0 only asks whether the process exists. */
export function kill(pid: number, signal: number): void {
  if (libc.kill(pid, signal) < 0) throw failed('kill');
}

/**
 * Locks a whole file for this process, as the reference locks its pidfile. Throws EAGAIN when another process has it. The lock
 * goes when the process ends or closes any descriptor of the file.
 */
export function lockWholeFile(fd: number): void {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(F_WRLCK, 0);
  if (libc.fcntlPointer(fd, F_SETLK, lock) < 0) {
    const code = errnoNow();
    throw new IoError(code === errno.EACCES ? errno.EAGAIN : code, { syscall: 'fcntl' });
  }
}

function failed(syscall: string): IoError {
  return new IoError(errnoNow(), { syscall });
}
