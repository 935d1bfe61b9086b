import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { closeFile, fileStatus } from '../../../src/sys/file.ts';
import { dup2, getppid, kill, lockWholeFile } from '../../../src/sys/process.ts';

const cleanups: (() => void)[] = [];

afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

function opened(path: string, flags: string): number {
  const fd = openSync(path, flags);
  cleanups.push(() => closeFile(fd));
  return fd;
}

describe('process', () => {
  it('makes one descriptor another', () => {
    const one = opened('/dev/null', 'r');
    const other = opened('/dev/zero', 'r');
    dup2(one, other);
    expect(fileStatus(other).rdev).toBe(fileStatus(one).rdev);
    expect(() => dup2(9999, other)).toThrow(expect.objectContaining({ errno: errno.EBADF }));
  });

  it('knows its parent, and which processes exist', () => {
    expect(getppid()).toBe(process.ppid);
    kill(process.pid, 0);
    expect(() => kill(2 ** 22 + 1, 0)).toThrow(expect.objectContaining({ errno: errno.ESRCH }));
  });

  it('locks a file against other processes, and leaves a session once', () => {
    const directory = mkdtempSync(join(tmpdir(), 'process-'));
    cleanups.push(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 'pid');
    lockWholeFile(opened(path, 'w'));
    const module = new URL('../../../src/sys/process.ts', import.meta.url).href;
    const script = `
      import { openSync } from 'node:fs';
      import { lockWholeFile, setsid } from ${JSON.stringify(module)};
      try { lockWholeFile(openSync(${JSON.stringify(path)}, 'r+')); } catch (e) { console.log(e.message); }
      setsid();
      try { setsid(); } catch (e) { console.log(e.message); }
    `;
    const child = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '--eval', script],
      { encoding: 'utf8' },
    );
    expect(child.stdout).toBe(
      'fcntl: Resource temporarily unavailable (EAGAIN)\nsetsid: Operation not permitted (EPERM)\n',
    );
  });
});
