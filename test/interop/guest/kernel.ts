// What a guest of the tests is made of: Debian's cloud kernel, installed or only unpacked, and programs of this machine.

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder, findProgram, missing, type ProgramName } from '../../helpers/reference.ts';

export interface GuestParts {
  readonly kernel: string;
  /** In the order in which they have to be loaded. */
  readonly modules: readonly string[];
  readonly busybox: string;
  readonly programs: readonly string[];
}

/** Where test/config/install-reference.sh unpacks the kernel's package. */
const unpacked = path.join(cacheFolder, 'guest-kernel');

const moduleFiles = [
  'drivers/virtio/virtio_ring.ko',
  'drivers/virtio/virtio.ko',
  'drivers/virtio/virtio_pci_legacy_dev.ko',
  'drivers/virtio/virtio_pci_modern_dev.ko',
  'drivers/virtio/virtio_pci.ko',
  'drivers/block/virtio_blk.ko',
];

const programs = ['blkdiscard', 'mkfs.ext4'] as const;

/** The parts, with further programs of this machine, or why there can be no such guest here. */
export function guestParts(...more: readonly ProgramName[]): GuestParts | string {
  if (process.arch !== 'x64') return 'guests of the tests need an x86-64 machine';
  const wanted = [...programs, ...more];
  const reason = missing('qemu-system-x86_64', 'busybox', ...wanted);
  if (reason !== undefined) return reason;
  for (const root of [unpacked, '/']) {
    const found = kernelIn(root);
    if (found !== undefined) {
      return {
        ...found,
        busybox: findProgram('busybox') ?? '',
        programs: wanted.map((name) => findProgram(name) ?? ''),
      };
    }
  }
  return `no Linux kernel for a guest in ${unpacked}: test/config/install-reference.sh brings it`;
}

function kernelIn(root: string): Pick<GuestParts, 'kernel' | 'modules'> | undefined {
  const boot = path.join(root, 'boot');
  if (!existsSync(boot)) return undefined;
  for (const name of readdirSync(boot).toSorted().toReversed()) {
    const release = /^vmlinuz-(.*-cloud-amd64)$/.exec(name)?.[1];
    if (release === undefined) continue;
    const modules = moduleFiles.map((each) =>
      path.join(root, 'lib/modules', release, 'kernel', each),
    );
    if (modules.every((each) => existsSync(each))) {
      return { kernel: path.join(boot, name), modules };
    }
  }
  return undefined;
}
