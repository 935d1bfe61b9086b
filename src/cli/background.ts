// --daemonize, in the process that becomes the daemon. It keeps the standard descriptors of the one that started it until it
// is ready, so that what goes wrong at the start is printed where the user looks.

import { closeSync, openSync, writeSync } from 'node:fs';
import { dup2 } from '../sys/process.ts';

/** The environment variable that tells the process what it is: its value is the status descriptor. */
export const MARK = 'QSD_DAEMONIZED';
/** The byte on the status descriptor that lets the first process go. */
export const READY = 0;
export const STANDARD_FDS = [0, 1, 2] as const;
const DAEMON_UMASK = 0o027;

/** The second process's side. */
export interface BackgroundProcess {
  /** Leaves the working directory and the terminal, and lets the first process go. */
  ready(): void;
}

/** Whether this is the process that was started in the background; to be asked once, at the start. */
export function enterBackground(): BackgroundProcess | undefined {
  const mark = process.env[MARK];
  if (mark === undefined) return undefined;
  delete process.env[MARK];
  const status = Number(mark);
  process.umask(DAEMON_UMASK);
  for (const signal of ['SIGTSTP', 'SIGTTOU', 'SIGTTIN'] as const) process.on(signal, () => {});
  return {
    ready() {
      process.chdir('/');
      const none = openSync('/dev/null', 'r+');
      for (const fd of STANDARD_FDS) dup2(none, fd);
      closeSync(none);
      writeSync(status, Buffer.of(READY));
      closeSync(status);
    },
  };
}
