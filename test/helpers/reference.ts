// The programs of others that the tests run: the reference daemon and the real clients. Finds them, and says in one
// sentence which are missing and what would bring them.

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The version whose answers are recorded in test/conformance/recorded. */
export const REFERENCE_VERSION = '7.2.22';

const debianPackages = {
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'nbd-server': 'nbd-server',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdfuse: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  nbdkit: 'nbdkit',
  'gnutls-cli': 'gnutls-bin',
  fio: 'fio',
  fusermount3: 'fuse3',
  losetup: 'mount',
  socat: 'socat',
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  blkdiscard: 'util-linux',
  setpriv: 'util-linux',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  gcc: 'gcc',
  python3: 'python3',
} as const;

export type ProgramName = keyof typeof debianPackages;

/** Where test/config/install-*.sh put what is unpacked and not installed. */
export const cacheFolder = join(
  process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
  'qmp-storage-daemon',
);
const unpackedServer = join(cacheFolder, 'nbd-server/bin');

/** The path of a program, or undefined. `REFERENCE` in the environment names another reference daemon. */
export function findProgram(name: ProgramName): string | undefined {
  const override = name === 'qemu-storage-daemon' ? process.env['REFERENCE'] : undefined;
  // Programs for the administrator are not on everybody's path.
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', unpackedServer];
  const candidates =
    override === undefined ? folders.map((folder) => join(folder, name)) : [override];
  return candidates.find(isExecutable);
}

/** Whether a program is the reference daemon, and no other. */
export function isReference(program = ''): boolean {
  return program === 'qemu-storage-daemon' || program === findProgram('qemu-storage-daemon');
}

/** Why a test that needs these programs cannot run, as one sentence, or undefined when it can. */
export function missing(...names: readonly ProgramName[]): string | undefined {
  const absent = names.filter((name) => findProgram(name) === undefined);
  if (absent.length === 0) return undefined;
  const packages = [...new Set(absent.map((name) => debianPackages[name]))];
  return `${absent.join(', ')} not found: install the Debian package ${packages.join(', ')}`;
}

/** A Python that has libnbd's module: Debian's own, or the first on the path. Undefined where there is none. */
export function pythonWithNbd(): string | undefined {
  const candidates = ['/usr/bin/python3', findProgram('python3')];
  return candidates.find((path) => path !== undefined && canImportNbd(path));
}

function canImportNbd(path: string): boolean {
  try {
    execFileSync(path, ['-c', 'import nbd'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Why answers cannot be compared with the running reference, or undefined when they can. */
export function referenceMissing(): string | undefined {
  const path = findProgram('qemu-storage-daemon');
  if (path === undefined) return missing('qemu-storage-daemon');
  const banner = execFileSync(path, ['--version'], { encoding: 'utf8' });
  const version = /version (\S+)/.exec(banner)?.[1];
  if (version === REFERENCE_VERSION) return undefined;
  return `the qemu-storage-daemon found is ${version}, the recorded answers are of ${REFERENCE_VERSION}`;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
