// NBD servers of others, as subprocesses of a test, and our daemon as a proxy before them. All ends with the test.

import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { expect } from 'vitest';
import type { SocketAddress } from '../../src/qapi/generated/types.ts';
import { runProgram, startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { fileWritten } from '../helpers/files.ts';
import { findProgram, type ProgramName } from '../helpers/reference.ts';

export interface NbdServer {
  readonly address: SocketAddress;
  /** Dies at once, without a word to its clients. */
  kill(): Promise<void>;
}

/** Options of an nbd node, without those that every one has. */
export type NbdNodeOptions = { readonly server: SocketAddress } & Readonly<Record<string, unknown>>;

/** Starts nbdkit on a unix socket in `directory`, or on `address`; ready when this resolves. */
export async function startNbdkit(
  directory: string,
  args: readonly string[],
  address: SocketAddress = unixAddress(directory),
): Promise<NbdServer> {
  const pidfile = path.join(directory, 'nbdkit.pid');
  return start({ program: 'nbdkit', directory, address, pidfile }, [
    '-f',
    '-P',
    pidfile,
    ...(address.type === 'unix' ? ['-U', address.path] : []),
    ...(address.type === 'inet' ? ['-i', address.host, '-p', address.port] : []),
    ...args,
  ]);
}

/** The same for qemu-nbd. */
export async function startQemuNbd(
  directory: string,
  args: readonly string[],
  address: SocketAddress = unixAddress(directory),
): Promise<NbdServer> {
  const pidfile = path.join(directory, 'qemu-nbd.pid');
  return start({ program: 'qemu-nbd', directory, address, pidfile }, [
    '--persistent',
    `--pid-file=${pidfile}`,
    ...(address.type === 'unix' ? ['-k', address.path] : []),
    ...(address.type === 'inet' ? ['-b', address.host, '-p', address.port] : []),
    ...args,
  ]);
}

/** nbd-server with `file` as the export `disk`, for one client: it ends with it. Listens soon after this returns. */
export function startNbdServer(directory: string, file: string, more = ''): NbdServer {
  const address = unixAddress(directory);
  rmSync(address.path, { force: true });
  const config = path.join(directory, 'nbd-server.conf');
  writeFileSync(
    config,
    `[generic]\nunixsock = ${address.path}\n[disk]\nexportname = ${file}\n${more}`,
  );
  const command = [findProgram('nbd-server') ?? 'nbd-server'];
  const run = runProgram({ directory, command, args: ['-d', '-C', config] });
  return {
    address,
    kill: async () => {
      run.child.kill('SIGKILL');
      await run.outcome;
    },
  };
}

export interface ReferenceServing {
  readonly objects?: readonly string[];
  /** More options of the server. */
  readonly server?: string;
  readonly blockdevs: readonly string[];
  readonly exports: readonly string[];
}

/** The reference daemon with an NBD server on a unix socket. */
export async function startReferenceServer(
  directory: string,
  { objects = [], server, blockdevs, exports }: ReferenceServing,
): Promise<NbdServer> {
  const address = unixAddress(directory, 'reference.sock');
  const pidfile = path.join(directory, 'reference.pid');
  // What the one before left when it was killed says nothing about this one.
  rmSync(pidfile, { force: true });
  const more = server === undefined ? '' : `,${server}`;
  return start({ program: 'qemu-storage-daemon', directory, address, pidfile }, [
    ...objects.flatMap((object) => ['--object', object]),
    '--nbd-server',
    `addr.type=unix,addr.path=${address.path}${more}`,
    ...blockdevs.flatMap((blockdev) => ['--blockdev', blockdev]),
    ...exports.flatMap((one) => ['--export', one]),
    '--pidfile',
    pidfile,
  ]);
}

interface Program {
  readonly program: ProgramName;
  readonly directory: string;
  readonly address: SocketAddress;
  readonly pidfile: string;
}

async function start(
  { program, directory, address, pidfile }: Program,
  args: readonly string[],
): Promise<NbdServer> {
  const command = [findProgram(program) ?? program];
  const ready = fileWritten(pidfile);
  const run = runProgram({ directory, command, args });
  const early = run.outcome.then(({ code, stderr }) => {
    throw new Error(`${program} ended with ${code}: ${stderr}`);
  });
  await Promise.race([ready, early]);
  early.catch(() => {});
  return {
    address,
    kill: async () => {
      run.child.kill('SIGKILL');
      await run.outcome;
    },
  };
}

/** A proxy: our daemon with a server of its own. */
export interface Proxy {
  readonly daemon: TestDaemon;
  /** Its NBD server. */
  readonly socket: string;
  /** Adds a node, and an export of it by the same name; answers its URI. */
  export(options: { readonly driver: string } & Readonly<Record<string, unknown>>): Promise<string>;
  /** The same for an nbd node. */
  serve(options: NbdNodeOptions): Promise<string>;
}

export async function startProxy(args: readonly string[] = []): Promise<Proxy> {
  const daemon = await startDaemon({
    args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock', ...args],
  });
  const socket = daemon.path('nbd.sock');
  let count = 0;
  const proxy: Proxy = {
    daemon,
    socket,
    export: async (options) => {
      const name = `n${count++}`;
      await daemon.qmp.executeAny('blockdev-add', { 'node-name': name, ...options });
      const writable = options['read-only'] !== true;
      await daemon.qmp.execute('block-export-add', {
        type: 'nbd',
        id: name,
        'node-name': name,
        name,
        writable,
      });
      return `nbd+unix:///${name}?socket=${socket}`;
    },
    serve: (options) => proxy.export({ driver: 'nbd', discard: 'unmap', ...options }),
  };
  return proxy;
}

export function unixAddress(
  directory: string,
  name = 'server.sock',
): Extract<SocketAddress, { type: 'unix' }> {
  return { type: 'unix', path: path.join(directory, name) };
}

/** An address on `host` at which nobody listens; undefined where there is no such host. */
export async function inetAddress(
  host: string,
): Promise<Extract<SocketAddress, { type: 'inet' }> | undefined> {
  const server = createServer();
  try {
    server.listen(0, host);
    await once(server, 'listening');
  } catch {
    return undefined;
  }
  const bound = server.address();
  server.close();
  await once(server, 'close');
  expect(bound).toMatchObject({ port: expect.any(Number) });
  return { type: 'inet', host, port: String((bound as { port: number }).port) };
}
