// A daemon as a subprocess of a test: ours by default, any other by its path. It is ended with the test, whatever happens.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { QmpClient } from '../../src/client/qmp-client.ts';
import { fileWritten } from './files.ts';
import { isReference } from './reference.ts';
import { withSecondClients } from './second-client.ts';
import { tempDir } from './temp-dir.ts';

export interface DaemonOptions {
  /** Options of the daemon. A monitor on the socket `qmp.sock` and the pidfile `pid` are added to them. */
  readonly args?: readonly string[];
  /** The command to run. Default: our daemon. */
  readonly command?: readonly string[];
  /** Where it runs. Default: a directory of its own. */
  readonly directory?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A descriptor of ours that is to be its stdin and stdout. Default: nothing, and a pipe. */
  readonly stdio?: number;
  /** Descriptors of ours that it is to have, as 3 and so on. */
  readonly inherited?: readonly number[];
}

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestDaemon {
  readonly directory: string;
  readonly pid: number;
  readonly child: ChildProcess;
  /** Connected and negotiated. */
  readonly qmp: QmpClient;
  /** How it ended. */
  readonly outcome: Promise<Outcome>;
  /** A path in its directory. */
  path(name: string): string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const bundle = path.join(root, 'dist/main.js');

/** The command that runs our daemon: the bundle, or the sources where there is none. */
export const ourCommand: readonly string[] = existsSync(bundle)
  ? [process.execPath, bundle]
  : [process.execPath, '--import', 'tsx', path.join(root, 'src/main.ts')];

/** Starts a daemon and waits until it is ready: its pidfile tells. */
export async function startDaemon(options: DaemonOptions = {}): Promise<TestDaemon> {
  const directory = options.directory ?? tempDir();
  const pidfile = path.join(directory, 'pid');
  const ready = fileWritten(pidfile);
  const run = runProgram({
    ...options,
    directory,
    args: [
      '--chardev',
      'socket,id=qmp,path=qmp.sock,server=on,wait=off',
      '--monitor',
      'qmp',
      ...(options.args ?? []),
      '--pidfile',
      'pid',
    ],
  });
  await Promise.race([ready, run.outcome.then(failedToStart)]);
  const qmp = await monitorOf(options, path.join(directory, 'qmp.sock'));
  onTestFinished(() => qmp.close());
  return {
    directory,
    pid: Number(readFileSync(pidfile, 'latin1')),
    child: run.child,
    qmp,
    outcome: run.outcome,
    path: (name) => path.join(directory, name),
  };
}

/** Runs a daemon with just these arguments; for command lines that end at once, and for those that need no monitor. */
export function runProgram(options: DaemonOptions & { readonly directory: string }): {
  child: ChildProcess;
  outcome: Promise<Outcome>;
} {
  const [program = '', ...before] = options.command ?? ourCommand;
  const child = spawn(program, [...before, ...(options.args ?? [])], {
    cwd: options.directory,
    env: { ...process.env, NODE_EXTRA_CA_CERTS: '', ...options.env },
    stdio: [
      options.stdio ?? 'ignore',
      options.stdio ?? 'pipe',
      'pipe',
      ...(options.inherited ?? []),
    ],
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await outcome;
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const outcome: Promise<Outcome> = once(child, 'close').then(([code, signal]) => ({
    code,
    signal,
    stdout,
    stderr,
  }));
  return { child, outcome };
}

function monitorOf({ command }: DaemonOptions, socket: string): Promise<QmpClient> {
  const connected = QmpClient.connect({ path: socket });
  return isReference(command?.at(-1)) ? withSecondClients(socket, connected) : connected;
}

function failedToStart({ code, stderr }: Outcome): never {
  throw new Error(`the daemon ended with ${code} before it was ready: ${stderr}`);
}
