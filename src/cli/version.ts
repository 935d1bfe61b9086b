// Our own name and version, and what --version prints.

import packageJson from '../../package.json' with { type: 'json' };
import { mirroredVersion } from '../monitor/version.ts';

/** As query-version and --version tell it: `qmp-storage-daemon 0.1.0`. */
export const packageName = `${packageJson.name} ${packageJson.version}`;

export const programName = packageJson.name;

/** The text of --version. */
export function versionText(program: string): string {
  const { major, minor, micro } = mirroredVersion;
  return [
    `${program} version ${major}.${minor}.${micro} (${packageName})`,
    'Copyright (c) the qmp-storage-daemon authors; MIT licence',
    '',
  ].join('\n');
}
