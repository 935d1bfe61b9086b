// A Linux guest under emulation, with vhost-user-blk disks: takes shell commands, may be reset, and may be killed at any moment.
// Knows nothing of tests, so that the benchmark can have one, too: tests boot theirs with boot.ts.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { findProgram } from '../../helpers/reference.ts';
import { initramfs } from './initramfs.ts';
import type { GuestParts } from './kernel.ts';

export interface GuestDisk {
  /** The backend's socket. */
  readonly socket: string;
  readonly queues?: number;
  /** Connect again when the backend has gone, and let the guest wait meanwhile. */
  readonly reconnect?: boolean;
}

export interface GuestOptions {
  readonly parts: GuestParts;
  /** Where its files go. */
  readonly directory: string;
  /** Whether backends can rely on the length of its memory, or have to ask the kernel for each piece. Default: they can. */
  readonly sealedMemory?: boolean;
  /** They become /dev/vda, /dev/vdb, ... */
  readonly disks: readonly GuestDisk[];
  /** Its memory, in MiB. */
  readonly memory?: number;
}

const MEMORY = 192;

export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

export class Guest {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #console: string;
  readonly #exit: Promise<unknown>;
  #output = '';
  #wanted: { pattern: RegExp; resolve: (match: RegExpExecArray) => void } | undefined;
  #over = false;

  private constructor(child: ChildProcessWithoutNullStreams, console: string) {
    this.#child = child;
    this.#console = console;
    this.#exit = once(child, 'exit').then(() => {
      this.#over = true;
    });
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.#output += text;
      this.#look();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
  }

  /** Switches it on; ready() tells when it takes commands. Whoever starts it has to kill it. */
  static start(options: GuestOptions): Guest {
    const { directory, parts } = options;
    const initrd = path.join(directory, 'initramfs');
    writeFileSync(initrd, initramfs(parts));
    const consoleFile = path.join(directory, 'console');
    const program = findProgram('qemu-system-x86_64') ?? '';
    return new Guest(spawn(program, commandLine(options, initrd, consoleFile)), consoleFile);
  }

  /** Resolves once it has booted. */
  async ready(): Promise<void> {
    await this.#expect(/--ready--\r?\n/);
  }

  /** Runs a line of shell; its exit status and what it printed. */
  async run(line: string): Promise<CommandResult> {
    this.start(line);
    const [whole, output = '', status] = await this.#expect(/^([^]*?)--done (\d+)--\r?\n/);
    if (whole === undefined) throw new Error('no answer');
    return { status: Number(status), output: output.replaceAll('\r', '').trimEnd() };
  }

  /** Runs a line of shell that must succeed; what it printed. */
  async succeed(line: string): Promise<string> {
    const { status, output } = await this.run(line);
    if (status !== 0) throw new Error(`in the guest, ${line}: ${status}: ${output}`);
    return output;
  }

  /** Starts a line of shell and does not wait for it. */
  start(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Resets the machine, as a crash of the guest would; resolves once it takes commands again. */
  async reboot(): Promise<void> {
    this.start('reboot -f');
    await this.ready();
  }

  async powerOff(): Promise<void> {
    this.start('poweroff -f');
    await this.#exit;
  }

  /** Ends the virtual machine without a word. Idempotent. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit;
  }

  async #expect(pattern: RegExp): Promise<RegExpExecArray> {
    const found = new Promise<RegExpExecArray>((resolve) => {
      this.#wanted = { pattern, resolve };
      this.#look();
    });
    const match = await Promise.race([found, this.#exit]);
    if (this.#over || match === undefined) {
      throw new Error(`the guest ended: ${this.#output}${readFileSync(this.#console, 'latin1')}`);
    }
    return match as RegExpExecArray;
  }

  #look(): void {
    const match = this.#wanted?.pattern.exec(this.#output);
    if (!match || this.#wanted === undefined) return;
    this.#output = this.#output.slice(match.index + match[0].length);
    const { resolve } = this.#wanted;
    this.#wanted = undefined;
    resolve(match);
  }
}

function commandLine(options: GuestOptions, initrd: string, consoleFile: string): string[] {
  const size = `${options.memory ?? MEMORY}M`;
  // What QEMU would share with nobody is not guest memory that a backend can map.
  const memory =
    options.sealedMemory === false
      ? `memory-backend-file,id=memory,size=${size},share=on,mem-path=/dev/shm`
      : `memory-backend-memfd,id=memory,size=${size},share=on`;
  const machine =
    `-nodefaults -no-user-config -display none -machine q35,accel=tcg,memory-backend=memory -smp 2 -m ${size} ` +
    `-object ${memory} -serial file:CONSOLE -serial stdio`;
  return [
    ...machine.split(' ').map((word) => word.replace('CONSOLE', consoleFile)),
    '-kernel',
    options.parts.kernel,
    '-initrd',
    initrd,
    '-append',
    'console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init',
    ...options.disks.flatMap(({ socket, queues = 1, reconnect = false }, at) => [
      '-chardev',
      `socket,id=disk${at},path=${socket}${reconnect ? ',reconnect=1' : ''}`,
      '-device',
      `vhost-user-blk-pci,chardev=disk${at},num-queues=${queues}`,
    ]),
  ];
}
