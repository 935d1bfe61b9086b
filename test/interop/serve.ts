// Our daemon with exports on a unix socket, and programs of others run against it.

import { execFile } from 'node:child_process';
import type { FileSetup } from '../conformance/case.ts';
import { DaemonProcess, environment } from '../conformance/daemon-process.ts';
import type { QmpLink } from '../conformance/qmp-link.ts';
import { ours, type Side } from '../conformance/side.ts';

export interface Served {
  readonly daemon: DaemonProcess;
  readonly qmp: QmpLink;
  readonly socket: string;
  /** The NBD URI of an export. */
  uri(name?: string): string;
  path(file: string): string;
  stop(): Promise<string>;
}

export interface ServeOptions {
  readonly files?: readonly FileSetup[];
  /** Block nodes and exports, by option; `@DIR@` is the directory. */
  readonly arguments?: readonly string[];
  readonly side?: Side;
}

/** Starts a daemon with an NBD server on `nbd.sock`; ready when this resolves. */
export async function serve(options: ServeOptions): Promise<Served> {
  const server = ['--nbd-server', 'addr.type=unix,addr.path=@DIR@/nbd.sock'];
  const daemon = new DaemonProcess(options.side ?? ours(), {
    files: options.files ?? [],
    arguments: [...server, ...(options.arguments ?? [])],
  });
  const qmp = daemon.stdio;
  if (qmp === undefined) throw new Error('no monitor on stdio');
  await qmp.negotiate();
  if (qmp.closed) throw new Error(`the daemon did not start: ${daemon.stderr}`);
  const socket = daemon.path('nbd.sock');
  return {
    daemon,
    qmp,
    socket,
    uri: (name = 'ex') => `nbd+unix:///${name}?socket=${socket}`,
    path: (file) => daemon.path(file),
    stop: () => daemon.stop(),
  };
}

/** Options for a writable export `ex` of a raw file. */
export function exported(file: string, more = ''): readonly string[] {
  return [
    '--blockdev',
    `file,node-name=f,filename=@DIR@/${file},discard=unmap${more}`,
    '--export',
    'nbd,id=e,node-name=f,name=ex,writable=on',
  ];
}

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

const RUN_LIMIT_MS = 200_000;

/** Runs a program to its end. */
export async function run(program: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { env: environment(), timeout: RUN_LIMIT_MS, maxBuffer: 1 << 28 };
    execFile(program, args, options, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ stdout, stderr, status });
    });
  });
}

/** The same, and its output; throws with what it wrote on stderr when it fails. */
export async function succeed(program: string, ...args: readonly string[]): Promise<string> {
  const ran = await run(program, args);
  if (ran.status !== 0) {
    throw new Error(
      `${program} ${args.join(' ')}: status ${ran.status}: ${ran.stderr}${ran.stdout}`,
    );
  }
  return ran.stdout;
}
