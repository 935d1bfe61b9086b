// Whether FUSE can be used on this machine, and programs that work on files of it. Such a program may hang if the daemon does,
// so nothing here waits for one without a limit, and nobody looks at a mounted file from the test's own thread.

import { type ExecFileException, execFile, execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { findProgram, missing } from './reference.ts';

const CAP_SYS_ADMIN = 21n;
const LIMIT_MS = 200_000;
export const fileCalls = path.join(import.meta.dirname, 'file-calls.py');

/** Why nothing can be mounted with FUSE here, as one sentence, or undefined when it can. */
export function fuseMissing(): string | undefined {
  if (!existsSync('/dev/fuse')) return '/dev/fuse is not there: modprobe fuse brings it';
  if (mayMount()) return missing('python3');
  return findProgram('fusermount3') === undefined
    ? 'mounting needs CAP_SYS_ADMIN, or the Debian package fuse3'
    : missing('python3');
}

/** Why FUSE cannot be used as root, or undefined. */
export function rootFuseMissing(): string | undefined {
  return fuseMissing() ?? (mayMount() ? undefined : 'mounting without a helper needs root');
}

/** Why there can be no loop device with a file system on it, or undefined. */
export function loopMissing(): string | undefined {
  const blocked = rootFuseMissing() ?? missing('losetup', 'mkfs.ext4');
  if (blocked !== undefined) return blocked;
  try {
    execFileSync('losetup', ['-f'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'there is no free loop device';
  }
}

function mayMount(): boolean {
  const status = readFileSync('/proc/self/status', 'latin1');
  const capabilities = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(status)?.[1] ?? '0'}`);
  if ((capabilities & (1n << CAP_SYS_ADMIN)) === 0n) return false;
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** [name, argument...]: see file-calls.py. */
export type FileCall = readonly [name: string, ...values: (string | number)[]];

/** What each call on the file answers, as lines. */
export async function callsOn(file: string, calls: readonly FileCall[]): Promise<string[]> {
  const text = await output('python3', fileCalls, file, JSON.stringify(calls));
  return text.split('\n').filter((line) => line !== '');
}

/** What a program writes on stdout. Rejects when it fails, or has not ended in time. */
export function output(program: string, ...args: readonly string[]): Promise<string> {
  return new Promise((fulfil, reject) => {
    const child = execFile(program, args, { maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
      clearTimeout(timer);
      if (error === null) fulfil(stdout);
      else reject(failure(error, stdout, stderr));
    });
    // Whoever waits for a hung daemon does not end when it is killed: the daemon has to be.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${program} ${args.join(' ')} has not ended`));
    }, LIMIT_MS);
  });
}

function failure(error: ExecFileException, stdout: string, stderr: string): Error {
  return new Error(`${error.message}${stderr}${stdout}`);
}

/** Whether something is mounted right at this path, as this process sees it or another one. */
export function isMounted(file: string, pid: number | 'self' = 'self'): boolean {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(` ${file} `);
}

/** Takes away what a killed daemon has left at this path. */
export function unmountLeftovers(file: string): void {
  while (isMounted(file)) execFileSync('umount', ['-l', file]);
}
