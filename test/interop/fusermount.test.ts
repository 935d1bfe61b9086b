// FUSE exports of a daemon that may not mount: fusermount3 does it.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ourCommand, startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { fuseMissing, isMounted, output, unmountLeftovers } from '../helpers/fuse.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const uid = isRoot ? NOBODY : process.getuid?.();
/** Before a command that somebody runs who is not root. */
const somebody = isRoot
  ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
  : ['env'];
/** A view of the file system with a /dev/fuse for everybody, as udev makes it. What is mounted there nobody else sees. */
const view = `
set -e
mount -t tmpfs none "$1"
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
umount -l "$1"
echo ready
exec cat
`;
const reason =
  fuseMissing() ?? missing('fusermount3', 'setpriv') ?? deviceClosed() ?? programClosed();

function deviceClosed(): string | undefined {
  if (!isRoot) {
    const isOpen = (statSync('/dev/fuse').mode & 0o006) === 0o006;
    return isOpen ? undefined : '/dev/fuse is not for everybody here';
  }
  try {
    execFileSync('unshare', ['-m', 'sh', '-c', view, 'sh', tmpdir()], { input: '', stdio: 'pipe' });
    return undefined;
  } catch {
    return 'there can be no other /dev/fuse here';
  }
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

/** A directory with an image and a mountpoint of somebody's, and how he runs commands there. */
interface Place {
  readonly directory: string;
  /** Before a command. */
  readonly words: readonly string[];
  /** What somebody's command writes on stdout. */
  run(...command: string[]): Promise<string>;
  isMounted(name: string): boolean;
}

async function makePlace(): Promise<Place> {
  const directory = makeDirectory();
  const pid = isRoot ? await makeView(directory) : undefined;
  const enter = pid === undefined ? [] : ['nsenter', `--mount=/proc/${pid}/ns/mnt`];
  const words = [...enter, 'env', `--chdir=${directory}`, ...somebody];
  return {
    directory,
    words,
    run(...command) {
      const [program = '', ...args] = [...words, ...command];
      return output(program, ...args);
    },
    isMounted: (name) => isMounted(`${directory}/${name}`, pid),
  };
}

/** The process that keeps the view until the test ends. */
async function makeView(directory: string): Promise<number | undefined> {
  mkdirSync(`${directory}/dev`);
  const keeper = spawn('unshare', ['-m', 'sh', '-c', view, 'sh', `${directory}/dev`]);
  onTestFinished(() => void keeper.kill('SIGKILL'));
  await once(keeper.stdout, 'data');
  return keeper.pid;
}

async function serve({ directory, words }: Place): Promise<TestDaemon> {
  const exported = 'fuse,id=e,node-name=n,mountpoint=m,writable=on';
  const daemon = await startDaemon({
    directory,
    command: [...words, ...ourCommand],
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
    const place = await makePlace();
    const daemon = await serve(place);
    expect(await place.run('stat', '-c', '%s %a %u', 'm')).toBe(`1048576 600 ${uid}\n`);
    await place.run('dd', 'if=/dev/zero', 'of=m', 'bs=4k', 'count=1', 'conv=notrunc');
    expect(readFileSync(daemon.path('a.img')).subarray(0, 4097)).toEqual(
      Buffer.concat([Buffer.alloc(4096), Buffer.from([0x11])]),
    );
    await daemon.qmp.execute('block-export-del', { id: 'e' });
    expect(place.isMounted('m')).toBe(false);
  });

  it('unmounts when the daemon ends', async () => {
    const place = await makePlace();
    const daemon = await serve(place);
    expect(place.isMounted('m')).toBe(true);
    daemon.child.kill('SIGTERM');
    expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
    expect(place.isMounted('m')).toBe(false);
  });

  it('takes away what a killed daemon has left', async () => {
    const place = await makePlace();
    const killed = await serve(place);
    process.kill(killed.pid, 'SIGKILL');
    await killed.outcome;
    rmSync(killed.path('pid'));
    await serve(place);
    expect(await place.run('stat', '-c', '%s', 'm')).toBe('1048576\n');
  });

  it('does not let others in unless the system permits it', async () => {
    const { qmp } = await serve(await makePlace());
    await qmp.execute('block-export-del', { id: 'e' });
    const options = { type: 'fuse', id: 'e', 'node-name': 'n', mountpoint: 'm' } as const;
    const on = qmp.execute('block-export-add', { ...options, 'allow-other': 'on' });
    const configuration = '/etc/fuse.conf';
    const permitted =
      existsSync(configuration) &&
      /^\s*user_allow_other/m.test(readFileSync(configuration, 'utf8'));
    if (permitted) await on;
    else await expect(on).rejects.toThrow('Failed to mount FUSE session to export');
  });
});
