// Mounting and unmounting, and what the kernel says is mounted where. All of it runs in the thread pool: a path may lead
// through file systems that this process itself serves.

import { readFile } from 'node:fs/promises';
import { callLater } from './file.ts';
import { libc } from './libc.ts';

const MS_NOSUID = 2;
const MS_NODEV = 4;
const MNT_DETACH = 2;

export interface MountRequest {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  /** The file system's own options, separated by commas. */
  readonly options: string;
}

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  /** Unique while it is mounted. */
  readonly id: number;
  readonly target: string;
  readonly type: string;
  readonly source: string;
}

/** Mounts, without set-user-id bits and devices. 0 or a negative errno. */
export function mountLater({ source, target, type, options }: MountRequest): Promise<number> {
  return callLater((done) =>
    libc.mount.async(source, target, type, MS_NOSUID | MS_NODEV, options, done),
  );
}

/** Takes a mount out of the tree at once; it ends when the last file of it is closed. 0 or a negative errno. */
export function detachLater(target: string): Promise<number> {
  return callLater((done) => libc.umount2.async(target, MNT_DETACH, done));
}

/** What is mounted, in the order of mounting: of two on one target the later one covers the other. */
export async function mountTable(): Promise<readonly MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo'));
}

/**
 * `36 35 98:0 /root /target options optional... - type source options`, see proc(5): spaces and the like in names are octal.
 * Lines that are otherwise are left out.
 */
export function parseMountTable(text: Buffer): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  // One character for each byte, so that names need not be UTF-8.
  for (const line of text.toString('latin1').split('\n')) {
    const [before = '', after = ''] = line.split(' - ', 2);
    const [id, , , , target] = before.split(' ');
    const [type, source] = after.split(' ');
    if (id === undefined || target === undefined || type === undefined || source === undefined) {
      continue;
    }
    entries.push({ id: Number(id), target: unescaped(target), type, source: unescaped(source) });
  }
  return entries;
}

function unescaped(name: string): string {
  const bytes = name.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString();
}
