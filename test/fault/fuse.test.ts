// FUSE exports whose daemon or mount goes away, and removals while they are used.

import { rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { runProgram, startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { isMounted, output, rootFuseMissing, unmountLeftovers } from '../helpers/fuse.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { UserOfFile } from '../helpers/user-of-file.ts';

const SIZE = 1024 * 1024;
const reason = rootFuseMissing();

/** With the image `a.img`, its node `n`, and the mountpoints `m` and `m2`. */
function makeDirectory(): string {
  const directory = tempDir();
  writeFileSync(`${directory}/a.img`, Buffer.alloc(SIZE, 0x11));
  for (const name of ['m', 'm2']) writeFileSync(`${directory}/${name}`, 'underneath');
  onTestFinished(() => {
    for (const name of ['m', 'm2', 'a.img']) unmountLeftovers(`${directory}/${name}`);
  });
  return directory;
}

const node = ['--blockdev', 'file,node-name=n,filename=a.img'];
const fuse = (more = ''): string[] => [
  '--export',
  `fuse,id=e,node-name=n,mountpoint=m,writable=on${more}`,
];

async function serve(
  directory = makeDirectory(),
  args = [...node, ...fuse()],
): Promise<TestDaemon> {
  const daemon = await startDaemon({ directory, args });
  onTestFinished(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.outcome;
  });
  return daemon;
}

const size = async (file: string): Promise<string> =>
  (await output('stat', '-c', '%s', file)).trim();

describe.skipIf(reason !== undefined)(
  `FUSE exports and accidents${reason ? ` (${reason})` : ''}`,
  () => {
    it('what a killed daemon has left is taken away by the next one', async () => {
      const directory = makeDirectory();
      const killed = await serve(directory);
      expect(await size(killed.path('m'))).toBe(`${SIZE}`);
      process.kill(killed.pid, 'SIGKILL');
      await killed.outcome;
      await expect(readFile(killed.path('m'))).rejects.toThrow('ENOTCONN');
      rmSync(killed.path('pid'));
      const next = await serve(directory);
      expect(await size(next.path('m'))).toBe(`${SIZE}`);
      next.child.kill('SIGTERM');
      expect(await next.outcome).toMatchObject({ code: 0 });
      expect(await readFile(next.path('m'), 'utf8')).toBe('underneath');
    });

    it.each(['quit', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
      'ends with %s: nothing stays mounted, and who has it open is told',
      async (end) => {
        const daemon = await serve();
        const user = await UserOfFile.open(daemon.path('m'));
        await user.call('write', 2, 4096, 0);
        if (end === 'quit') await daemon.qmp.execute('quit');
        else daemon.child.kill(end);
        expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
        expect(isMounted(daemon.path('m'))).toBe(false);
        expect(await readFile(daemon.path('m'), 'utf8')).toBe('underneath');
        expect(await user.call('read', 10, 0)).toContain('ENOTCONN');
        await user.close();
      },
    );

    it('so is what it left in the place of its own image', async () => {
      const directory = makeDirectory();
      // Without waiting for a disk that others may keep busy.
      const image = 'file,node-name=n,filename=a.img,cache.no-flush=on';
      const over = [
        '--blockdev',
        image,
        '--export',
        'fuse,id=e,node-name=n,mountpoint=a.img,writable=on',
      ];
      const killed = await serve(directory, over);
      await output(
        'dd',
        'if=/dev/zero',
        `of=${killed.path('a.img')}`,
        'bs=4k',
        'conv=notrunc',
        'count=1',
      );
      process.kill(killed.pid, 'SIGKILL');
      await killed.outcome;
      await expect(readFile(killed.path('a.img'))).rejects.toThrow('ENOTCONN');
      rmSync(killed.path('pid'));
      const next = await serve(directory, over);
      expect(await size(next.path('a.img'))).toBe(`${SIZE}`);
      next.child.kill('SIGTERM');
      expect(await next.outcome).toMatchObject({ code: 0 });
      expect(isMounted(next.path('a.img'))).toBe(false);
      const expected = Buffer.concat([Buffer.alloc(4096), Buffer.alloc(SIZE - 4096, 0x11)]);
      expect((await readFile(next.path('a.img'))).equals(expected)).toBe(true);
    });

    it('a mount of somebody else that nobody serves is left alone', async () => {
      const directory = makeDirectory();
      // As whoever gives a name to what he mounts, and is killed.
      await output('python3', '-c', mountAndExit, `${directory}/a.img`);
      expect(isMounted(`${directory}/a.img`)).toBe(true);
      const { code, stderr } = await runProgram({ directory, args: node }).outcome;
      expect(code).toBe(1);
      expect(stderr).toContain("Could not open 'a.img': Transport endpoint is not connected");
      expect(isMounted(`${directory}/a.img`)).toBe(true);
    });

    it('an image that it serves in its own place is not opened once more: it would wait for itself', async () => {
      const directory = makeDirectory();
      const over = [...node, '--export', 'fuse,id=e,node-name=n,mountpoint=a.img,writable=on'];
      const { qmp } = await serve(directory, over);
      await expect(
        qmp.execute('blockdev-add', { driver: 'file', 'node-name': 'm', filename: './a.img' }),
      ).rejects.toThrow("Could not open './a.img': Resource deadlock avoided");
      await qmp.execute('blockdev-create', {
        'job-id': 'j',
        options: { driver: 'file', filename: 'a.img', size: 512 },
      });
      expect(await qmp.execute('query-jobs')).toMatchObject([
        { error: "Could not create 'a.img': Resource deadlock avoided" },
      ]);
      await qmp.execute('block-export-del', { id: 'e' });
      await qmp.execute('blockdev-add', { driver: 'file', 'node-name': 'm', filename: 'a.img' });
    });

    it('what was written before a kill is in the image', async () => {
      const daemon = await serve();
      await output(
        'dd',
        'if=/dev/zero',
        `of=${daemon.path('m')}`,
        'bs=4k',
        'count=10',
        'conv=notrunc',
      );
      process.kill(daemon.pid, 'SIGKILL');
      await daemon.outcome;
      const image = await readFile(daemon.path('a.img'));
      expect(image.subarray(0, 40_960)).toEqual(Buffer.alloc(40_960));
      expect(image.length).toBe(SIZE);
    });

    it('a start that fails leaves nothing mounted', async () => {
      const directory = makeDirectory();
      const twice = [...node, ...fuse(), '--export', 'fuse,id=e2,node-name=n,mountpoint=m'];
      const { code, stderr } = await runProgram({ directory, args: twice }).outcome;
      expect(code).toBe(1);
      expect(stderr).toContain("There already is a FUSE export on 'm'");
      expect(isMounted(`${directory}/m`)).toBe(false);
    });

    it('one place under several names is one place', async () => {
      const daemon = await serve();
      for (const mountpoint of [
        './m',
        daemon.path('m'),
        `${daemon.directory}/../${daemon.directory.split('/').pop()}/m`,
      ]) {
        const add = { type: 'fuse', id: 'e2', 'node-name': 'n', mountpoint } as const;
        await expect(daemon.qmp.execute('block-export-add', add)).rejects.toThrow(
          `There already is a FUSE export on '${mountpoint}'`,
        );
      }
      expect(await size(daemon.path('m'))).toBe(`${SIZE}`);
    });

    it('over the image itself, which has to be opened anew for writing', async () => {
      const directory = makeDirectory();
      const image = [
        '--blockdev',
        'file,node-name=n,filename=a.img,auto-read-only=on,read-only=off',
      ];
      const over = ['--export', 'fuse,id=e,node-name=n,mountpoint=a.img'];
      const server = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
      const daemon = await serve(directory, [...image, ...over, ...server]);
      const writable = { type: 'nbd', id: 'x', 'node-name': 'n', writable: true } as const;
      await daemon.qmp.execute('block-export-add', writable);
      expect(await size(daemon.path('a.img'))).toBe(`${SIZE}`);
      await daemon.qmp.execute('block-export-del', { id: 'x' });
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      expect(await size(daemon.path('a.img'))).toBe(`${SIZE}`);
    });

    it('somebody else unmounts it: the export waits for its removal', async () => {
      const daemon = await serve();
      await output('umount', daemon.path('m'));
      expect(await daemon.qmp.execute('query-block-exports')).toHaveLength(1);
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      const again = { type: 'fuse', id: 'e', 'node-name': 'n', mountpoint: 'm' } as const;
      await daemon.qmp.execute('block-export-add', again);
      expect(await size(daemon.path('m'))).toBe(`${SIZE}`);
    });

    it('somebody else has unmounted it: hidden, it has no user left and ends', async () => {
      const daemon = await serve();
      await output('umount', daemon.path('m'));
      // The daemon comes to see it in one of these turns.
      for (let turn = 0; turn < 3; turn++) await daemon.qmp.execute('query-block-exports');
      const deleted = daemon.qmp.waitForEvent('BLOCK_EXPORT_DELETED');
      await daemon.qmp.execute('x-block-export-del', { id: 'e', mode: 'hide' });
      expect(await deleted).toEqual({ id: 'e' });
    });

    it('a mount that has come over ours stays', async () => {
      const daemon = await serve();
      writeFileSync(daemon.path('over'), 'over');
      await output('mount', '--bind', daemon.path('over'), daemon.path('m'));
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      expect(await readFile(daemon.path('m'), 'utf8')).toBe('over');
      await output('umount', daemon.path('m'));
    });

    it('it is unmounted where it has been moved to', async () => {
      const directory = makeDirectory();
      await output('mkdir', `${directory}/before`);
      writeFileSync(`${directory}/before/m`, 'underneath');
      const args = [...node, '--export', 'fuse,id=e,node-name=n,mountpoint=before/m'];
      const daemon = await serve(directory, args);
      await output('mv', daemon.path('before'), daemon.path('after'));
      expect(await size(daemon.path('after/m'))).toBe(`${SIZE}`);
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      expect(await readFile(daemon.path('after/m'), 'utf8')).toBe('underneath');
    });

    it('removal ends it for who has it open, after what is dirty was written', async () => {
      const daemon = await serve();
      const user = await UserOfFile.open(daemon.path('m'));
      await user.call('write', 2, 4096, 0);
      await output('python3', '-c', mapAndExit, daemon.path('m'));
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      expect(await user.call('write', 2, 10, 0)).toContain('ENOTCONN');
      const image = await readFile(daemon.path('a.img'));
      expect(image.subarray(0, 4)).toEqual(Buffer.alloc(4, 2));
      expect(image.subarray(8192, 8196).toString()).toBe('mmap');
      await user.close();
    });

    it('hidden, it goes on for who has it open and ends with the last of them', async () => {
      const daemon = await serve();
      const user = await UserOfFile.open(daemon.path('m'));
      await daemon.qmp.execute('x-block-export-del', { id: 'e', mode: 'hide' });
      expect(await readFile(daemon.path('m'), 'utf8')).toBe('underneath');
      expect(await user.call('write', 3, 10, 0)).toContain('-> 10');
      expect(await daemon.qmp.execute('query-block-exports')).toMatchObject([
        { 'shutting-down': true },
      ]);
      const events = daemon.qmp.events();
      await user.close();
      expect((await events.next()).value).toMatchObject({ event: 'BLOCK_EXPORT_DELETED' });
      expect(await daemon.qmp.execute('query-block-exports')).toEqual([]);
    });

    it('softly removed, it answers whoever has it open with errors', async () => {
      const daemon = await serve();
      const user = await UserOfFile.open(daemon.path('m'));
      await daemon.qmp.execute('x-block-export-del', { id: 'e', mode: 'soft' });
      expect(await user.call('write', 3, 10, 0)).toContain('ESHUTDOWN');
      await daemon.qmp.execute('block-export-del', { id: 'e', mode: 'hard' });
      expect(await daemon.qmp.execute('query-block-exports')).toEqual([]);
      expect(await user.call('write', 3, 10, 0)).toContain('ENOTCONN');
      await user.close();
    });

    it('the kernel aborts the connection: the daemon lives', async () => {
      const daemon = await serve();
      const device = (await output('stat', '-c', '%d', daemon.path('m'))).trim();
      const abort = `mount -t fusectl none "$1" 2>/dev/null; echo 1 > "$1/$2/abort"; umount "$1"`;
      await output('mkdir', daemon.path('ctl'));
      await output('unshare', '-m', 'sh', '-c', abort, 'sh', daemon.path('ctl'), device);
      await expect(readFile(daemon.path('m'))).rejects.toThrow('ENOTCONN');
      await daemon.qmp.execute('block-export-del', { id: 'e' });
      expect(await readFile(daemon.path('m'), 'utf8')).toBe('underneath');
    });
  },
);

const mountAndExit = `
import ctypes, os, sys
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=100000,user_id=0,group_id=0"
if ctypes.CDLL(None, use_errno=True).mount(b"somebody", sys.argv[1].encode(), b"fuse", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "mount")
`;

const mapAndExit = `
import mmap, os, sys
m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 16384)
m[8192:8196] = b"mmap"
os._exit(0)
`;
