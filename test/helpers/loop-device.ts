// Block devices that are made of files, for the tests of one. `loopMissing` in fuse.ts says where there can be none.

import { execFileSync } from 'node:child_process';
import { onTestFinished } from 'vitest';

const LIMIT_MS = 30_000;

/** The path of a device over `file`; it goes when the test has ended and nobody has it open. */
export function loopDevice(file: string): string {
  const options = { encoding: 'utf8', timeout: LIMIT_MS } as const;
  const device = execFileSync('losetup', ['-f', '--show', file], options).trim();
  onTestFinished(() => void execFileSync('losetup', ['-d', device], options));
  return device;
}
