// --daemonize. Node cannot fork, so the program starts itself again in a new session, hands its descriptors on, and waits for
// a byte that says "ready". The second process keeps the first one's standard descriptors until then, so that what goes
// wrong at the start is printed where the user looks.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { dup2 } from '../sys/process.ts';

/** Tells the second process what it is: `STATUS_FD[,FD_TO_CLOSE...]`. */
const MARK = 'QSD_DAEMONIZED';
const STANDARD_FDS = [0, 1, 2] as const;
const READY = 0;
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
  const [status = -1, ...fillers] = mark.split(',').map(Number);
  for (const fd of fillers) closeSync(fd);
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

/** Starts the second process and waits until it is ready or has ended; the exit code for the first one. */
export async function startInBackground(): Promise<number> {
  const inherited = inheritedDescriptors();
  const status = Math.max(2, ...inherited) + 1;
  const fillers: number[] = [];
  const stdio = Array.from({ length: status }, (_, fd) => {
    if (fd < STANDARD_FDS.length || inherited.includes(fd)) return fd;
    fillers.push(fd);
    return 'ignore' as const;
  });
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: [...stdio, 'pipe'],
    env: { ...process.env, [MARK]: [status, ...fillers].join(',') },
  });
  const pipe = child.stdio[status] as NodeJS.ReadableStream;
  const code = await new Promise<number>((resolve) => {
    pipe.once('data', (bytes: Buffer) => resolve(bytes[0] === READY ? 0 : 1));
    pipe.once('close', () => resolve(1));
    child.once('error', () => resolve(1));
  });
  child.unref();
  return code;
}

/**
 * Descriptors above 2 that were open when the program was started. Node marks all of them close-on-exec, so they are told
 * from its own by what they are: it opens event, timer and pipe descriptors only.
 */
function inheritedDescriptors(): number[] {
  const open = readdirSync('/proc/self/fd').map((name) => ({
    fd: Number(name),
    target: link(name),
  }));
  const targets = open.map(({ target }) => target);
  return open
    .filter(({ fd }) => fd >= STANDARD_FDS.length)
    .filter(({ target }) => target !== undefined && !target.startsWith('anon_inode:'))
    .filter(({ target, fd }) => !isOwnPipe(target, targets) && !isDirectoryListing(target, fd))
    .map(({ fd }) => fd)
    .sort((a, b) => a - b);
}

/** Both ends in one process: libuv's own signal pipe. */
function isOwnPipe(target: string | undefined, all: readonly (string | undefined)[]): boolean {
  return target?.startsWith('pipe:') === true && all.filter((each) => each === target).length > 1;
}

/** The descriptor that the listing itself took. */
function isDirectoryListing(target: string | undefined, fd: number): boolean {
  return target === `/proc/${process.pid}/fd` && fd >= STANDARD_FDS.length;
}

function link(name: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return undefined;
  }
}
