// Images for the tests: made and looked at by qemu-img, which must be there; contents come from a seed.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { BlockBackend } from '../../src/block/block-backend.ts';
import { allocate } from '../../src/sys/memory.ts';
import { type Opened, openDisk } from './qcow2-disk.ts';

/** Why tests that need qemu-img are skipped, or undefined. */
export const noQemuImg =
  spawnSync('qemu-img', ['--version']).status === 0 ? undefined : 'qemu-img is not installed';

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A directory of its own, removed after the test. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'qcow2-'));
  cleanups.push(() => rmSync(path, { recursive: true }));
  return path;
}

export function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}

/** Has qemu-io carry out commands on an image; what is discarded goes. */
export function qemuIo(path: string, ...commands: readonly string[]): void {
  const each = commands.flatMap((command) => ['-c', command]);
  execFileSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-t', 'unsafe', ...each, path]);
}

export interface Made {
  readonly path: string;
  readonly size?: number;
  /** `-o`, as qemu-img takes them. */
  readonly options?: string;
}

export function createImage({ path, size = 2 ** 20, options }: Made): string {
  qemuImg(
    'create',
    '-q',
    '-f',
    'qcow2',
    ...(options === undefined ? [] : ['-o', options]),
    path,
    String(size),
  );
  return path;
}

/** What `qemu-img check` says: its exit status (0 sound, 2 corrupt, 3 leaks) and text. */
export function checkImage(path: string): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['check', '-f', 'qcow2', path], {
    encoding: 'utf8',
  });
  return { status, text: stdout + stderr };
}

/** The disk in an image, as qemu-img sees it. */
export function contentsByQemu(path: string): Buffer {
  const raw = `${path}.contents`;
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
  return execFileSync('cat', [raw], { maxBuffer: 2 ** 30 });
}

/** Opens an image in a graph of its own, closed after the test at the latest. */
export async function openImage(...args: Parameters<typeof openDisk>): Promise<Opened> {
  const opened = await openDisk(...args);
  cleanups.push(() => opened.close());
  return opened;
}

/** Reads all of a disk in pieces of a size that fits no cluster. */
export async function contents(backend: BlockBackend, piece = 100_003): Promise<Buffer> {
  const { length } = backend;
  const whole = allocate(length);
  for (let at = 0; at < length; at += piece) {
    await backend.read(at, Math.min(piece, length - at), whole, at);
  }
  return whole.bytes;
}

/** A file with that content. */
export function rawFile(path: string, content: Buffer): string {
  writeFileSync(path, content);
  return path;
}

/** `qemu-img map --output=json`. How deep nothing was looked for says nothing. */
export function mapByQemu(path: string): MapEntry[] {
  const rows = JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path)) as MapEntry[];
  return rows.map(({ start, length, depth, present, zero, data, offset }) => ({
    start,
    length,
    depth: present ? depth : 0,
    present,
    zero,
    data,
    ...(offset === undefined ? {} : { offset }),
  }));
}

export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}
