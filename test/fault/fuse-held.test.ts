// FUSE exports in this process, of a disk whose reads end when the test says so: signals and removals while they wait.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createDaemon, type InProcessDaemon } from '../../src/index.ts';
import { isMounted, rootFuseMissing, unmountLeftovers } from '../helpers/fuse.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { UserOfFile } from '../helpers/user-of-file.ts';

const BLOCK = 4096;
const LIMIT_MS = 60_000;
const reason = rootFuseMissing();

interface Scene {
  readonly daemon: InProcessDaemon;
  /** The file that is exported, by the export `e`. */
  readonly file: string;
  /** Resolves when so many reads have begun, ever. */
  readonly begun: (count: number) => Promise<void>;
  /** Lets reads end, those that are yet to come as well. */
  readonly release: () => void;
}

async function serve(): Promise<Scene> {
  const file = `${tempDir()}/m`;
  writeFileSync(file, 'underneath');
  onTestFinished(() => unmountLeftovers(file));
  const daemon = createDaemon();
  const reads: (() => void)[] = [];
  let isHolding = true;
  const release = (): void => {
    isHolding = false;
    for (const end of reads) end();
  };
  onTestFinished(async () => {
    release();
    await daemon.close();
  });
  const read = (into: Uint8Array): Promise<void> =>
    new Promise((done) => {
      const end = (): void => done(void into.fill(7));
      reads.push(end);
      if (!isHolding) end();
    });
  await daemon.addDisk('n', { size: 1024 * BLOCK, read }, { readOnly: true });
  await daemon.execute('block-export-add', {
    type: 'fuse',
    id: 'e',
    'node-name': 'n',
    mountpoint: file,
  });
  const begun = (count: number): Promise<void> =>
    vi.waitFor(() => expect(reads.length).toBe(count), LIMIT_MS);
  return { daemon, file, begun, release };
}

/** A process whose threads each read a block, past the cache; SIGUSR1 does not end it. */
function reader(file: string, threads = 1): ChildProcess {
  const child = spawn('python3', ['-c', readBlocks, file, String(threads)]);
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** The kernel has a request of this process. Where it does not say what a process waits for, it is taken for granted. */
function waitsForAnswer({ pid }: ChildProcess): boolean {
  const stack = `/proc/${pid}/stack`;
  return !existsSync(stack) || readFileSync(stack, 'latin1').includes('fuse');
}

const readBlocks = `
import mmap, os, signal, sys, threading
signal.signal(signal.SIGUSR1, lambda *_: None)
f = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
wrong = []
def read(block):
    with mmap.mmap(-1, ${BLOCK}) as m:
        if os.preadv(f, [m], block * ${BLOCK}) != ${BLOCK} or m[:] != b"\\7" * ${BLOCK}: wrong.append(block)
threads = [threading.Thread(target=read, args=(n,)) for n in range(1, int(sys.argv[2]))]
for t in threads: t.start()
read(0)
for t in threads: t.join()
sys.exit(len(wrong))
`;

describe.skipIf(reason !== undefined)(
  `FUSE exports whose requests take their time${reason ? ` (${reason})` : ''}`,
  () => {
    it('a signal does not cut a read short', async () => {
      const { file, begun, release } = await serve();
      const user = reader(file);
      await begun(1);
      user.kill('SIGUSR1');
      release();
      expect(await once(user, 'close')).toEqual([0, null]);
      // It was not asked for again.
      await begun(1);
    });

    it('who is killed while a read is under way ends with it, and the rest goes on', async () => {
      const { file, begun, release } = await serve();
      const user = reader(file);
      await begun(1);
      user.kill('SIGKILL');
      const ended = once(user, 'close');
      const other = reader(file);
      await begun(2);
      release();
      expect(await ended).toEqual([null, 'SIGKILL']);
      expect(await once(other, 'close')).toEqual([0, null]);
    });

    it('64 reads are under way; who is killed while his waits in the queue ends at once', async () => {
      const { file, begun, release } = await serve();
      const busy = reader(file, 64);
      await begun(64);
      const user = spawn('dd', [`if=${file}`, 'of=/dev/null', 'iflag=direct', 'bs=4k', 'count=1']);
      await vi.waitFor(() => expect(waitsForAnswer(user)).toBe(true), LIMIT_MS);
      user.kill('SIGKILL');
      expect(await once(user, 'close')).toEqual([null, 'SIGKILL']);
      release();
      expect(await once(busy, 'close')).toEqual([0, null]);
      // What was taken back did not come.
      await begun(64);
    });

    it('removal waits for what is under way, and says that it does', async () => {
      const { daemon, file, begun, release } = await serve();
      const user = reader(file);
      await begun(1);
      const deleted: string[] = [];
      daemon.on('BLOCK_EXPORT_DELETED', ({ id }) => deleted.push(id));
      const removed = daemon.execute('block-export-del', { id: 'e' });
      await vi.waitFor(() => expect(isMounted(file)).toBe(false), LIMIT_MS);
      expect(await daemon.execute('query-block-exports')).toMatchObject([
        { 'shutting-down': true },
      ]);
      expect(deleted).toEqual([]);
      release();
      await removed;
      expect(deleted).toEqual(['e']);
      expect(await once(user, 'close')).toEqual([0, null]);
    });

    it('removed the hard way while it is being hidden, it is unmounted when that is done', async () => {
      const { daemon, file } = await serve();
      const user = await UserOfFile.open(file, 'O_RDONLY');
      const hidden = daemon.execute('x-block-export-del', { id: 'e', mode: 'hide' });
      await daemon.execute('block-export-del', { id: 'e', mode: 'hard' });
      expect(isMounted(file)).toBe(false);
      await hidden;
      await user.close();
    });
  },
);
