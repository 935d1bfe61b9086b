// FUSE exports of a daemon that may not mount: fusermount3 does it.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ourCommand, startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { fuseMissing, isMounted, output, unmountLeftovers } from '../helpers/fuse.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
/** Before a command that somebody runs who is not root. */
const somebody = isRoot
  ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
  : ['env'];
const reason = fuseMissing() ?? missing('fusermount3') ?? deviceClosed() ?? programClosed();

/** It is for everybody where udev has set it up. */
function deviceClosed(): string | undefined {
  const isOpen = (statSync('/dev/fuse').mode & 0o006) === 0o006;
  return isOpen ? undefined : '/dev/fuse is not for everybody here';
}

/** Somebody must be able to run it. */
function programClosed(): string | undefined {
  const [program, ...args] = [...somebody, 'test', '-r', ourCommand.at(-1) ?? ''];
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'only root can get to the daemon here';
  }
}

const asSomebody = (...command: string[]): Promise<string> => {
  const [program = '', ...args] = [...somebody, ...command];
  return output(program, ...args);
};

async function serve(directory: string): Promise<TestDaemon> {
  const exported = 'fuse,id=e,node-name=n,mountpoint=m,writable=on';
  const daemon = await startDaemon({
    directory,
    command: [...somebody, ...ourCommand],
    args: ['--blockdev', 'file,node-name=n,filename=a.img', '--export', exported],
  });
  onTestFinished(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.outcome;
    unmountLeftovers(daemon.path('m'));
  });
  return daemon;
}

function makeDirectory(): string {
  const directory = tempDir();
  writeFileSync(`${directory}/a.img`, Buffer.alloc(1_048_576, 0x11));
  writeFileSync(`${directory}/m`, 'underneath');
  chmodSync(directory, 0o777);
  if (isRoot) for (const name of ['a.img', 'm']) chownSync(`${directory}/${name}`, NOBODY, NOBODY);
  return directory;
}

describe.skipIf(reason !== undefined)(`fusermount3${reason ? ` (${reason})` : ''}`, () => {
  it('mounts and unmounts', async () => {
    const daemon = await serve(makeDirectory());
    expect(await asSomebody('stat', '-c', '%s %a', daemon.path('m'))).toBe('1048576 600\n');
    await asSomebody(
      'dd',
      'if=/dev/zero',
      `of=${daemon.path('m')}`,
      'bs=4k',
      'count=1',
      'conv=notrunc',
    );
    expect(readFileSync(daemon.path('a.img')).subarray(0, 4097)).toEqual(
      Buffer.concat([Buffer.alloc(4096), Buffer.from([0x11])]),
    );
    await daemon.qmp.execute('block-export-del', { id: 'e' });
    expect(isMounted(daemon.path('m'))).toBe(false);
  });

  it('takes away what a killed daemon has left', async () => {
    const directory = makeDirectory();
    const killed = await serve(directory);
    process.kill(killed.pid, 'SIGKILL');
    await killed.outcome;
    rmSync(killed.path('pid'));
    const next = await serve(directory);
    expect(await asSomebody('stat', '-c', '%s', next.path('m'))).toBe('1048576\n');
  });

  it('does not let others in unless the system permits it', async () => {
    const daemon = await serve(makeDirectory());
    await daemon.qmp.execute('block-export-del', { id: 'e' });
    const options = { type: 'fuse', id: 'e', 'node-name': 'n', mountpoint: 'm' } as const;
    const on = daemon.qmp.execute('block-export-add', { ...options, 'allow-other': 'on' });
    const configuration = '/etc/fuse.conf';
    const permitted =
      existsSync(configuration) &&
      /^\s*user_allow_other/m.test(readFileSync(configuration, 'utf8'));
    if (permitted) await on;
    else await expect(on).rejects.toThrow('Failed to mount FUSE session to export');
  });
});
