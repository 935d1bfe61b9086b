// The initial root file system of a test's guest: busybox, programs of this machine with their libraries, kernel modules and
// an init that takes commands from a serial port. Written as the kernel reads it (cpio, "newc").

import { execFileSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';

interface Entry {
  readonly name: string;
  /** st_mode. */
  readonly mode: number;
  readonly contents?: Uint8Array;
}

const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;
const SYMLINK = 0o120777;

/**
 * Commands come by the line on the second serial port, and each is answered by its output and `--done STATUS--`. `--ready--`
 * tells that the guest listens, after each boot.
 */
const init = (modules: readonly string[]) => `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
export PATH=/bin
${modules.map((module) => `insmod /modules/${module}`).join('\n')}
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo --ready-- >&3
while read -r line <&3; do
  (eval "$line") >&3 2>&1 </dev/null
  echo "--done $?--" >&3
done
poweroff -f
`;

/** The archive. `modules` in the order in which they are loaded, `programs` by path: they come to be in /host. */
export function initramfs(parts: {
  readonly busybox: string;
  readonly modules: readonly string[];
  readonly programs: readonly string[];
}): Buffer {
  const libraries = [...new Set(parts.programs.flatMap(librariesOf))];
  const folders = new Set(
    ['bin', 'host', 'modules', 'proc', 'sys', 'dev', 'mnt', 'tmp'].concat(
      libraries.flatMap((library) => parents(library.slice(1))),
    ),
  );
  const names = parts.modules.map((module) => path.basename(module));
  const entries: Entry[] = [
    ...[...folders].map((name) => ({ name, mode: DIRECTORY })),
    { name: 'init', mode: EXECUTABLE, contents: Buffer.from(init(names)) },
    file('bin/busybox', parts.busybox),
    ...parts.modules.map((module) => file(`modules/${path.basename(module)}`, module)),
    ...parts.programs.map((program) => file(`host/${path.basename(program)}`, program)),
    ...libraries.map((library) => file(library.slice(1), library)),
    { name: 'etc', mode: SYMLINK, contents: Buffer.from('tmp') },
  ];
  return archive(entries);
}

function file(name: string, from: string): Entry {
  return { name, mode: EXECUTABLE, contents: readFileSync(realpathSync(from)) };
}

/** Absolute paths of the shared libraries that a program loads, the loader among them. */
function librariesOf(program: string): string[] {
  const listing = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...listing.matchAll(/(\/\S+) \(0x/g)].map(([, library]) => library ?? '');
}

/** a/b/c: a, a/b. */
function parents(name: string): string[] {
  const parts = name.split('/').slice(0, -1);
  return parts.map((_, at) => parts.slice(0, at + 1).join('/'));
}

function archive(entries: readonly Entry[]): Buffer {
  const chunks: Uint8Array[] = [];
  for (const [at, entry] of [...entries, { name: 'TRAILER!!!', mode: 0 }].entries()) {
    const contents = ('contents' in entry ? entry.contents : undefined) ?? Buffer.alloc(0);
    const fields = [at + 1, entry.mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0];
    const numbers = [...fields, entry.name.length + 1, 0].map((value) =>
      value.toString(16).padStart(8, '0'),
    );
    const header = Buffer.from(`070701${numbers.join('')}${entry.name}\0`, 'latin1');
    chunks.push(header, padding(header.length), contents, padding(contents.length));
  }
  return Buffer.concat(chunks);
}

function padding(length: number): Uint8Array {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
