// A daemon as a subprocess, for the tests that compare, torment or measure one: its directory, its output, its end.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDescriptors } from '../helpers/descriptors.ts';
import { residentKilobytes } from '../helpers/resident-memory.ts';
import { smallQcow2 } from '../helpers/small-qcow2.ts';
import type { FileSetup } from './case.ts';
import { QmpLink } from './qmp-link.ts';
import type { Side } from './side.ts';

export interface DaemonOptions {
  readonly files?: readonly FileSetup[];
  readonly arguments?: readonly string[];
  /** How the link `monitor` is made; `none`: the command line says it all. */
  readonly monitor?: 'stdio' | 'socket' | 'pretty' | 'none';
  readonly directory?: string;
  /** More of its environment. */
  readonly environment?: NodeJS.ProcessEnv;
}

const START_LIMIT_MS = 30_000;
const EXIT_LIMIT_MS = 30_000;

export class DaemonProcess {
  readonly directory: string;
  readonly child: ChildProcess;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** The stdio monitor's link, or one to the socket once `connect` made it. */
  readonly stdio: QmpLink | undefined;
  stderr = '';
  stdout = '';
  readonly #ownsDirectory: boolean;

  constructor(side: Side, options: DaemonOptions = {}) {
    this.#ownsDirectory = options.directory === undefined;
    this.directory = options.directory ?? makeDirectory();
    setUpFiles(this.directory, options.files ?? []);
    const [program, ...before] = side.command;
    const args = [
      ...before,
      ...monitorArguments(options.monitor ?? 'stdio'),
      ...(options.arguments ?? []),
    ];
    this.child = spawn(
      program,
      args.map((argument) => argument.replaceAll('@DIR@', this.directory)),
      {
        cwd: this.directory,
        env: { ...environment(), ...options.environment },
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
    const { stdin, stdout, stderr } = this.child;
    if (stdin === null || stdout === null || stderr === null) throw new Error('no pipes');
    stdin.on('error', () => {});
    stderr.setEncoding('latin1').on('data', (text: string) => (this.stderr += text));
    const isStdio =
      options.monitor === undefined || options.monitor === 'stdio' || options.monitor === 'pretty';
    if (isStdio) this.stdio = new QmpLink(stdout, stdin);
    else stdout.setEncoding('latin1').on('data', (text: string) => (this.stdout += text));
    this.exited = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Connects to a monitor socket in the directory, as soon as it is there. */
  async connect(name = 'qmp.sock'): Promise<QmpLink> {
    const end = Date.now() + START_LIMIT_MS;
    for (;;) {
      const { exitCode, signalCode } = this.child;
      try {
        return await QmpLink.connect(this.path(name));
      } catch (error) {
        // Not there yet, or bound and not listening yet.
        if (exitCode !== null || signalCode !== null || Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 4));
      }
    }
  }

  /** SIGTERM, then SIGKILL for one that does not go. How it ended, in words. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', limitMs = EXIT_LIMIT_MS): Promise<string> {
    let killed = false;
    this.child.kill(signal);
    const timer = setTimeout(() => {
      killed = true;
      this.child.kill('SIGKILL');
    }, limitMs);
    const { code, signal: by } = await this.exited;
    clearTimeout(timer);
    this.stdio?.close();
    if (this.#ownsDirectory) rmSync(this.directory, { recursive: true, force: true });
    if (killed) return `<had to be killed after ${signal}>`;
    return by === null ? `<exit ${code}>` : `<${by}>`;
  }

  /** How many file descriptors it has open now. */
  openDescriptors(): number {
    return openDescriptors(this.pid);
  }

  /** Kilobytes of resident memory now. */
  residentKilobytes(): number {
    return residentKilobytes(this.pid);
  }
}

export function makeDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'qsd-conf-'));
}

/** Without what slows the start of node down, and with one language for the messages of the C library. */
export function environment(): NodeJS.ProcessEnv {
  return { ...process.env, NODE_EXTRA_CA_CERTS: '', LC_ALL: 'C', NODE_NO_WARNINGS: '1' };
}

export function setUpFiles(directory: string, files: readonly FileSetup[]): void {
  for (const file of files) {
    const path = join(directory, file.name);
    if (file.kind === 'directory') mkdirSync(path);
    else if (file.kind === 'fifo') execFileSync('mkfifo', [path]);
    else if (file.kind === 'symlink') symlinkSync(file.target ?? '', path);
    else makeFile(path, file);
    if (file.mode !== undefined) chmodSync(path, file.mode);
  }
}

function makeFile(path: string, file: FileSetup): void {
  writeFileSync(path, file.qcow2 === undefined ? (file.text ?? '') : smallQcow2(file.qcow2));
  if (file.length !== undefined) truncateSync(path, file.length);
  const fd = openSync(path, 'r+');
  for (const [offset, length, byte] of file.fill ?? []) {
    writeSync(fd, Buffer.alloc(length, byte), 0, length, offset);
  }
  closeSync(fd);
}

function monitorArguments(kind: 'stdio' | 'socket' | 'pretty' | 'none'): readonly string[] {
  if (kind === 'none') return [];
  if (kind === 'stdio') return ['--chardev', 'stdio,id=qmp', '--monitor', 'qmp'];
  if (kind === 'pretty') return ['--chardev', 'stdio,id=qmp', '--monitor', 'qmp,pretty=on'];
  const chardev = 'socket,id=qmp,path=@DIR@/qmp.sock,server=on,wait=off';
  return ['--chardev', chardev, '--monitor', 'qmp'];
}

/** Polls a condition that has no event; rejects when it does not come true. */
export async function waitUntil(condition: () => boolean, limitMs: number): Promise<void> {
  const end = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not so within ${limitMs} ms: ${String(condition)}`);
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
}
