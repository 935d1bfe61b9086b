// Disks made of code: the example of the README, run, and what such a disk may and may not do.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDaemon, type Disk, type InProcessDaemon } from '../../src/index.ts';
import { root } from '../config/shared.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { memoryDisk } from './memory-disk.ts';

const MIB = 1024 * 1024;
const run = promisify(execFile);
const reason = missing('nbdinfo', 'nbdcopy', 'qemu-io', 'qemu-img');

interface Served {
  readonly daemon: InProcessDaemon;
  readonly uri: string;
  readonly directory: string;
}

async function served(disk: Disk, options: { readonly readOnly?: boolean } = {}): Promise<Served> {
  const daemon = createDaemon({ log: { error() {}, warn() {}, debug() {} } });
  onTestFinished(() => daemon.close());
  const directory = tempDir();
  const socket = path.join(directory, 'nbd.sock');
  await daemon.addDisk('disk', disk, options);
  await daemon.execute('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await daemon.execute('block-export-add', {
    type: 'nbd',
    id: 'e',
    'node-name': 'disk',
    name: '',
    writable: disk.write !== undefined && options.readOnly !== true,
  });
  return { daemon, uri: `nbd+unix:///?socket=${socket}`, directory };
}

async function io(uri: string, ...commands: string[]): Promise<string> {
  const args = commands.flatMap((command) => ['-c', command]);
  const { stdout } = await run('qemu-io', ['-f', 'raw', ...args, uri]);
  return stdout;
}

describe('memoryDisk', () => {
  it('is what the README shows', () => {
    const shown = /(function memoryDisk[\s\S]*?\n\}\n)/;
    const inReadme = shown.exec(readFileSync(path.join(root, 'README.md'), 'utf8'))?.[1];
    const source = readFileSync(path.join(import.meta.dirname, 'memory-disk.ts'), 'utf8');
    expect(inReadme).toBeDefined();
    expect(shown.exec(source)?.[1]).toBe(inReadme);
  });
});

const rejection = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'nothing went wrong',
    (error: unknown) => String(error),
  );

describe.skipIf(reason !== undefined)(`addDisk${reason ? ` (${reason})` : ''}`, () => {
  it('serves memory that others read and write', async () => {
    const bytes = new Uint8Array(4 * MIB);
    const { uri, directory } = await served(memoryDisk(bytes));
    await io(
      uri,
      'write -P 7 1M 64k',
      'read -P 7 1M 64k',
      'read -P 0 0 1M',
      'write -z 1M 4k',
      'flush',
    );
    expect(bytes[MIB]).toBe(0);
    expect(bytes[MIB + 4096]).toBe(7);
    const copy = path.join(directory, 'copy');
    await run('nbdcopy', [uri, copy]);
    const { stdout } = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri]);
    expect(stdout).toContain('Images are identical');
  });

  it('tells what reads as zeroes', async () => {
    const disk: Disk = {
      size: 4 * MIB,
      read: (into, offset) => void into.fill(offset < MIB ? 1 : 0),
      status: (offset) =>
        offset < MIB
          ? { kind: 'data', length: MIB - offset }
          : { kind: 'zero', length: Number.MAX_SAFE_INTEGER },
    };
    const { uri } = await served(disk);
    const { stdout } = await run('nbdinfo', ['--map', '--json', uri]);
    expect(JSON.parse(stdout)).toMatchObject([
      { offset: 0, length: MIB, type: 0 },
      { offset: MIB, length: 3 * MIB, type: 3 },
    ]);
  });

  it('is read-only without a write, and when asked for', async () => {
    const readable: Disk = { size: MIB, read: (into) => void into.fill(3) };
    const { daemon } = await served(readable);
    await daemon.addDisk('kept', memoryDisk(new Uint8Array(MIB)), { readOnly: true });
    const nodes = await daemon.execute('query-named-block-nodes', { flat: true });
    expect(nodes.map((node) => [node['node-name'], node.ro])).toEqual([
      ['kept', true],
      ['disk', true],
    ]);
    const refused = daemon.execute('block-export-add', {
      type: 'nbd',
      id: 'w',
      'node-name': 'kept',
      writable: true,
    });
    expect(await rejection(refused)).toContain('read-only');
  });

  it('is what other nodes stand on, and goes with blockdev-del', async () => {
    let closed = 0;
    const disk = { ...memoryDisk(new Uint8Array(MIB)), close: () => void closed++ };
    const daemon = createDaemon();
    onTestFinished(() => daemon.close());
    await daemon.addDisk('disk', disk);
    const half = { driver: 'raw', 'node-name': 'half', file: 'disk', size: MIB / 2 } as const;
    await daemon.execute('blockdev-add', half);
    expect(await rejection(daemon.execute('blockdev-del', { 'node-name': 'disk' }))).toContain(
      'in use',
    );
    await daemon.execute('blockdev-del', { 'node-name': 'half' });
    await daemon.execute('blockdev-del', { 'node-name': 'disk' });
    expect(closed).toBe(1);
    expect(await daemon.execute('query-named-block-nodes')).toEqual([]);
  });

  it('may fail as it likes: the client gets an error, and goes on', async () => {
    const bytes = new Uint8Array(MIB);
    const memory = memoryDisk(bytes);
    const disk: Disk = {
      ...memory,
      read(into, offset) {
        if (offset === 0) throw new Error('an accident');
        return memory.read(into, offset);
      },
      async write(from, offset) {
        await Promise.resolve();
        if (offset === 4096) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
        await memory.write?.(from, offset);
      },
      status: () => ({ kind: 'data', length: 0 }),
    };
    const { uri } = await served(disk);
    const output = await run('qemu-io', [
      '-f',
      'raw',
      '-c',
      'read 0 512',
      '-c',
      'write 4096 512',
      '-c',
      'write -P 9 8192 512',
      '-c',
      'read -P 9 8192 512',
      uri,
    ]).catch((error: { stdout: string; stderr: string }) => error);
    expect(`${output.stdout}${output.stderr}`).toContain('read failed: Input/output error');
    expect(`${output.stdout}${output.stderr}`).toContain('write failed: No space left on device');
    expect(bytes[8192]).toBe(9);
  });

  it.each([
    [undefined, 'A disk must be an object'],
    [{ size: 512 }, 'A disk must have a function read'],
    [{ size: 512, read() {}, flush: 5 }, "A disk's flush must be a function"],
  ])('refuses %j, which is no disk', async (disk, text) => {
    const daemon = createDaemon();
    onTestFinished(() => daemon.close());
    expect(await rejection(daemon.addDisk('odd', disk as Disk))).toContain(text);
  });

  it('refuses a node without a name', async () => {
    const daemon = createDaemon();
    onTestFinished(() => daemon.close());
    const unnamed = daemon.addDisk(undefined as unknown as string, memoryDisk(new Uint8Array(512)));
    expect(await rejection(unnamed)).toContain("'node-name' must be specified for the root node");
  });

  it('refuses a size that is none, and names that are taken', async () => {
    const daemon = createDaemon();
    onTestFinished(() => daemon.close());
    const odd: Disk = { size: -1, read: () => {} };
    expect(await rejection(daemon.addDisk('odd', odd))).toContain('Invalid argument');
    await daemon.addDisk('disk', memoryDisk(new Uint8Array(512)));
    expect(await rejection(daemon.addDisk('disk', memoryDisk(new Uint8Array(512))))).toMatch(
      /[Dd]uplicate/,
    );
  });
});
