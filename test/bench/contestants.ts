// The servers that are measured side by side, each with a copy of the same image on a unix socket of its own.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DaemonProcess, environment, waitUntil } from '../conformance/daemon-process.ts';
import type { QmpLink } from '../conformance/qmp-link.ts';
import { ours, reference, type Side } from '../conformance/side.ts';
import { findProgram } from '../helpers/reference.ts';

export type ContestantName = 'ours' | 'reference' | 'nbdkit' | 'bare loop';

export interface Contestant {
  readonly name: ContestantName;
  readonly socket: string;
  readonly uri: string;
  readonly pid: number;
  /** The monitor, where there is one. */
  readonly qmp: QmpLink | undefined;
  stop(): Promise<void>;
}

const STARTED_LIMIT_MS = 10_000;

/** Starts every server that this machine has. */
export async function startContestants(directory: string, image: string): Promise<Contestant[]> {
  const contestants = [await startDaemon(ours(), directory, image)];
  if (findProgram('qemu-storage-daemon') !== undefined) {
    contestants.push(await startDaemon(reference(), directory, image));
  }
  const nbdkit = findProgram('nbdkit');
  if (nbdkit !== undefined) contestants.push(await startNbdkit(nbdkit, directory, image));
  const compiler = findProgram('gcc');
  if (compiler !== undefined) contestants.push(await startBareLoop(compiler, directory, image));
  return contestants;
}

async function startDaemon(side: Side, directory: string, image: string): Promise<Contestant> {
  const socket = join(directory, `${side.name}.sock`);
  const daemon = new DaemonProcess(side, {
    arguments: [
      '--blockdev',
      `file,node-name=f,filename=${copyOf(image, side.name)}`,
      '--nbd-server',
      `addr.type=unix,addr.path=${socket}`,
      '--export',
      'nbd,id=e,node-name=f,name=,writable=on',
    ],
  });
  await daemon.stdio?.negotiate();
  return {
    name: side.name,
    socket,
    uri: uriOf(socket),
    pid: daemon.pid,
    qmp: daemon.stdio,
    stop: async () => {
      await daemon.stop();
    },
  };
}

export async function startNbdkit(
  program: string,
  directory: string,
  image: string,
): Promise<Contestant> {
  const socket = join(directory, 'nbdkit.sock');
  const child = spawn(program, ['-f', '-U', socket, 'file', copyOf(image, 'nbdkit')], {
    env: environment(),
    stdio: 'ignore',
  });
  return started('nbdkit', socket, child);
}

async function startBareLoop(
  compiler: string,
  directory: string,
  image: string,
): Promise<Contestant> {
  const program = compiled(compiler, directory, 'bare-loop');
  const socket = join(directory, 'bare.sock');
  const child = spawn(program, [socket, copyOf(image, 'bare')], { stdio: 'ignore' });
  return started('bare loop', socket, child);
}

/** A proxy for the server at a socket that does nothing but move bytes. */
export async function startBarePump(directory: string, server: string): Promise<Contestant> {
  const compiler = findProgram('gcc');
  if (compiler === undefined) throw new Error('No gcc');
  const program = compiled(compiler, directory, 'bare-pump');
  const socket = join(mkdtempSync(join(directory, 'pump-')), 'sock');
  return started('bare loop', socket, spawn(program, [socket, server], { stdio: 'ignore' }));
}

/** The program made of a C file in this folder. */
function compiled(compiler: string, directory: string, name: string): string {
  const program = join(directory, name);
  if (!existsSync(program)) {
    execFileSync(compiler, ['-O2', '-o', program, join(import.meta.dirname, `${name}.c`)]);
  }
  return program;
}

async function started(
  name: ContestantName,
  socket: string,
  child: ChildProcess,
): Promise<Contestant> {
  await waitUntil(() => existsSync(socket), STARTED_LIMIT_MS);
  return {
    name,
    socket,
    uri: uriOf(socket),
    pid: child.pid ?? -1,
    qmp: undefined,
    stop: async () => {
      const gone = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      await gone;
    },
  };
}

function uriOf(socket: string): string {
  return `nbd+unix:///?socket=${socket}`;
}

/** Bytes that are written at once to a copy. */
const PIECE = 256 * 1024;

/**
 * A copy of the image beside it; made when first asked for. Written in pieces as large as the requests of the rows, so that the
 * page cache holds it as it does what a guest has written: single pages, which a copy inside the kernel leaves, and pieces much
 * larger than a request make every write dearer, whoever serves it.
 */
export function copyOf(image: string, suffix: string): string {
  const copy = `${image}.${suffix}`;
  if (existsSync(copy)) return copy;
  const from = openSync(image, 'r');
  const to = openSync(copy, 'wx');
  const piece = Buffer.alloc(PIECE);
  for (let length = readSync(from, piece); length > 0; length = readSync(from, piece)) {
    writeSync(to, piece, 0, length);
  }
  closeSync(from);
  closeSync(to);
  return copy;
}

/** Waits until everything in the directory is on disk: what one has written must not be written out while another is measured. */
export function settle(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const fd = openSync(join(directory, entry.name), 'r');
    fsyncSync(fd);
    closeSync(fd);
  }
}

const TICKS_PER_SECOND = 100;

/** Seconds of processor time that a process has used, its threads and ended children of its own included. */
export function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export function residentMebibytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}
