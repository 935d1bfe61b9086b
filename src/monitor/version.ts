// The version that query-version and the greeting tell: that of the program whose behaviour is mirrored, with our own name
// and version as the package.

import type { VersionInfo } from '../qapi/generated/types.ts';

export const mirroredVersion = { major: 7, minor: 2, micro: 22 } as const;

/** `packageName` is our own, `qmp-storage-daemon 0.1.0`. */
export function versionInfo(packageName: string): VersionInfo {
  return { qemu: mirroredVersion, package: packageName };
}
