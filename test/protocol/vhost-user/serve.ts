// Daemons that export a disk as vhost-user-blk: the reference where it is installed, and ours. A test of this folder is written
// once and holds for both, so the reference itself vouches for what is asked of ours.

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ourCommand, startDaemon, type TestDaemon } from '../../helpers/daemon.ts';
import { findProgram, missing } from '../../helpers/reference.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

export interface Side {
  readonly name: string;
  readonly command: readonly string[];
  /** Why it cannot be tested here, or undefined. */
  readonly missing: string | undefined;
  /**
   * The cache mode that a driver finds. The reference tells write-through and does not do it, so that a guest that believes it
   * sends no flushes; ours tells what it does.
   */
  readonly cacheMode: 0 | 1;
}

export const referenceSide: Side = {
  name: 'the reference',
  command: [findProgram('qemu-storage-daemon') ?? ''],
  missing: missing('qemu-storage-daemon'),
  cacheMode: 0,
};

export const ourSide: Side = {
  name: 'ours',
  command: ourCommand,
  missing: undefined,
  cacheMode: 1,
};

export const sides: readonly Side[] = [referenceSide, ourSide];

export interface ServedDisk {
  readonly daemon: TestDaemon;
  readonly socket: string;
  /** The image's bytes as they are now. */
  readonly image: () => Buffer;
}

export interface ServeOptions {
  /** What the image holds. Default: 1 MiB of numbered sectors. */
  readonly image?: Uint8Array;
  /** Options of the export beyond its type, id, node and address: `writable=on` and more. Default: writable. */
  readonly options?: string;
}

const MIB = 1024 * 1024;

/** Starts a daemon with the export `disk` over `disk.img` on the socket `disk.sock`. */
export async function serveDisk(side: Side, options: ServeOptions = {}): Promise<ServedDisk> {
  const directory = tempDir();
  const file = path.join(directory, 'disk.img');
  writeFileSync(file, options.image ?? numbered(MIB));
  const daemon = await startDaemon({
    directory,
    command: side.command,
    args: [
      '--blockdev',
      'driver=file,node-name=node,filename=disk.img,discard=unmap',
      '--export',
      `vhost-user-blk,id=disk,node-name=node,addr.type=unix,addr.path=disk.sock,${options.options ?? 'writable=on'}`,
    ],
  });
  return { daemon, socket: daemon.path('disk.sock'), image: () => readFileSync(file) };
}

/** Bytes of which each sector of 512 names itself, so that no two are the same. */
export function numbered(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE((at ^ 0xa5a50000) >>> 0, at);
  return bytes;
}
