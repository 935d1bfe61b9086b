// The ways in which a daemon has requests to files done: by the kernel's rings, and by threads where it may have none.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDaemon } from '../../src/index.ts';
import { ourCommand, runProgram, startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { noRings } from '../helpers/io-uring.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { CMD, errorOf, NbdWireClient } from '../protocol/nbd-wire-client.ts';

/** Of requests that are done beside the main thread. */
const LENGTH = 2 * 1024 * 1024;
const COUNT = 6;
const EPERM = 1;
const ENOSYS = 38;

const launcher = fileURLToPath(new URL('../helpers/without-rings.py', import.meta.url));

function withoutRings(code: number): readonly string[] {
  return ['python3', launcher, String(code), ...ourCommand];
}

function emptyImage(directory: string): string {
  const image = path.join(directory, 'image');
  writeFileSync(image, '');
  truncateSync(image, COUNT * LENGTH);
  return image;
}

async function serving(more: string, command?: readonly string[]): Promise<TestDaemon> {
  const directory = tempDir();
  emptyImage(directory);
  return startDaemon({
    directory,
    ...(command === undefined ? {} : { command }),
    args: [
      '--blockdev',
      `file,node-name=f,filename=image${more}`,
      '--nbd-server',
      'addr.type=unix,addr.path=nbd.sock',
      '--export',
      'nbd,id=e,node-name=f,name=ex,writable=on',
    ],
  });
}

function piece(at: number): Buffer {
  return Buffer.alloc(LENGTH, at + 1);
}

/** Several long writes at once, then reads of the same. All of it is in the image when this resolves. */
async function writeAndRead(daemon: TestDaemon): Promise<void> {
  const client = await NbdWireClient.ready(daemon.path('nbd.sock'), {
    name: 'ex',
    structured: false,
  });
  for (let at = 0; at < COUNT; at++) {
    client.sendRequest({
      type: CMD.WRITE,
      cookie: BigInt(at),
      offset: at * LENGTH,
      length: LENGTH,
      payload: piece(at),
    });
  }
  for (let at = 0; at < COUNT; at++) expect(errorOf(await client.reply())?.error).toBe(0);
  for (let at = 0; at < COUNT; at++) {
    const request = { type: CMD.READ, offset: at * LENGTH, length: LENGTH };
    const [reply] = await client.request(request, LENGTH);
    expect(reply?.data.equals(piece(at))).toBe(true);
  }
  client.close();
  const image = readFileSync(daemon.path('image'));
  for (let at = 0; at < COUNT; at++) {
    expect(image.compare(piece(at), 0, LENGTH, at * LENGTH, (at + 1) * LENGTH)).toBe(0);
  }
}

function ringsOf({ pid }: { readonly pid: number }): number {
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return 'gone';
    }
  });
  return links.filter((link) => link === 'anon_inode:[io_uring]').length;
}

async function ended(daemon: TestDaemon): Promise<number | null> {
  await daemon.qmp.execute('quit');
  return (await daemon.outcome).code;
}

describe.skipIf(noRings !== undefined)(
  `a daemon that may have rings${noRings === undefined ? '' : ` (left out: ${noRings})`}`,
  () => {
    it.each([
      { more: '', rings: 1 },
      { more: ',cache.direct=on', rings: 1 },
      { more: ',aio=io_uring', rings: 1 },
      { more: ',aio=io_uring,cache.direct=on', rings: 1 },
      { more: ',aio=native,cache.direct=on', rings: 1 },
      { more: ',aio=threads', rings: 0 },
      { more: ',aio=threads,cache.direct=on', rings: 0 },
    ])('uses $rings of them: file$more', async ({ more, rings }) => {
      const daemon = await serving(more);
      await writeAndRead(daemon);
      expect(ringsOf(daemon)).toBe(rings);
      expect(await ended(daemon)).toBe(0);
    });

    it('is not alone in its process, and gives its ring back', async () => {
      const before = ringsOf(process);
      const directory = tempDir();
      const daemons = ['first', 'second'].map((name) => {
        const filename = path.join(directory, name);
        writeFileSync(filename, Buffer.alloc(LENGTH));
        const daemon = createDaemon({ log: { error() {}, warn() {}, debug() {} } });
        onTestFinished(() => daemon.close());
        return { daemon, filename };
      });
      for (const { daemon, filename } of daemons) {
        const node = { driver: 'file', filename, aio: 'io_uring', 'node-name': 'f' } as const;
        await daemon.execute('blockdev-add', node);
      }
      expect(ringsOf(process)).toBe(before + 2);
      for (const { daemon } of daemons) await daemon.close();
      expect(ringsOf(process)).toBe(before);
    });

    it('shares one among its nodes', async () => {
      const daemon = await serving(',aio=io_uring');
      const filename = path.join(daemon.directory, 'other');
      writeFileSync(filename, Buffer.alloc(LENGTH));
      await daemon.qmp.execute('blockdev-add', {
        driver: 'file',
        filename,
        aio: 'io_uring',
        'node-name': 'o',
      });
      expect(ringsOf(daemon)).toBe(1);
      await daemon.qmp.execute('blockdev-del', { 'node-name': 'o' });
      await writeAndRead(daemon);
      expect(await ended(daemon)).toBe(0);
    });
  },
);

/** Where system calls can be filtered. */
const filters = spawnSync('python3', [launcher, String(EPERM), 'true']).status === 0;
const noFilters = filters ? '' : ' (left out: no filter of system calls can be set here)';

describe.skipIf(!filters)(`a daemon that may have no ring${noFilters}`, () => {
  it.each([
    { code: EPERM, reason: 'Operation not permitted' },
    { code: ENOSYS, reason: 'Function not implemented' },
  ])('refuses aio=io_uring: $reason', async ({ code, reason }) => {
    const directory = tempDir();
    emptyImage(directory);
    const options = 'file,node-name=f,filename=image,aio=io_uring';
    const { outcome } = runProgram({
      directory,
      command: withoutRings(code),
      args: ['--blockdev', options],
    });
    expect(await outcome).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        `${options}: Unable to use io_uring: failed to init linux io_uring ring: ${reason}\n`,
      ),
    });
  });

  it.each(['', ',aio=threads', ',aio=native,cache.direct=on'])(
    'does all with threads: file%s',
    async (more) => {
      const daemon = await serving(more, withoutRings(EPERM));
      await writeAndRead(daemon);
      expect(ringsOf(daemon)).toBe(0);
      expect(await ended(daemon)).toBe(0);
    },
  );
});
