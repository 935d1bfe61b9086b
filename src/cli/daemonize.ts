// --daemonize, in the process that was called. Node cannot fork, so the program starts itself again in a new session, hands
// its descriptors on, and waits for a byte that says "ready". background.ts is the other side.

import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { MARK, READY, STANDARD_FDS } from './background.ts';

/** Starts the second process and waits until it is ready or has ended; the exit code for the first one. */
export async function startInBackground(): Promise<number> {
  const inherited = inheritedDescriptors();
  const status = Math.max(2, ...inherited) + 1;
  const stdio = Array.from({ length: status }, (_, fd) =>
    fd < STANDARD_FDS.length || inherited.includes(fd) ? fd : ('ignore' as const),
  );
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: [...stdio, 'pipe'],
    env: { ...process.env, [MARK]: String(status) },
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
