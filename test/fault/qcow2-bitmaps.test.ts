// Persistent bitmaps of a daemon that ends, well or not: what the image says of them afterwards is true.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addDirtyBitmap, removeDirtyBitmap } from '../../src/block/dirty-bitmap-commands.ts';
import type { BlockdevOptions } from '../../src/qapi/generated/types.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { bitmapsByReference, bitmapsInImage } from '../helpers/qcow2-bitmaps.ts';
import { bufferOf, openDisk, random } from '../helpers/qcow2-disk.ts';
import {
  checkImage,
  contents,
  createImage,
  noQemuImg,
  qemuImg,
  scratch,
} from '../helpers/qcow2-images.ts';
import { missing, referenceMissing } from '../helpers/reference.ts';
import { WriteTrail } from '../helpers/write-trail.ts';

const MIB = 2 ** 20;
const reason = noQemuImg ?? referenceMissing() ?? missing('qemu-io', 'nbdinfo');

/** A daemon with the image `image` in its directory, exported for writing. */
function serving(command?: readonly string[]): Promise<TestDaemon> {
  return startDaemon({
    ...(command === undefined ? {} : { command }),
    args: [
      '--blockdev',
      'qcow2,node-name=n,file.driver=file,file.filename=image',
      '--nbd-server',
      'addr.type=unix,addr.path=nbd.sock',
      '--export',
      'nbd,id=e,node-name=n,name=n,writable=on',
    ],
    directory: prepared(),
  });
}

function prepared(): string {
  const directory = scratch();
  const path = createImage({ path: `${directory}/image`, size: 8 * MIB });
  qemuImg('bitmap', '--add', path, 'old');
  return directory;
}

function write(daemon: TestDaemon, offset: string): void {
  const uri = `nbd+unix:///n?socket=${daemon.path('nbd.sock')}`;
  execFileSync('qemu-io', ['-f', 'raw', '-c', `write ${offset} 64k`, '-c', 'flush', uri]);
}

const add = { node: 'n', name: 'new', persistent: true };

describe.skipIf(reason !== undefined)(
  `persistent bitmaps when the daemon ends${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    it.each(['quit', 'SIGTERM', 'SIGINT'] as const)('are stored: %s', async (how) => {
      const daemon = await serving();
      await daemon.qmp.execute('block-dirty-bitmap-add', add);
      write(daemon, '1M');
      if (how === 'quit') await daemon.qmp.execute('quit');
      else daemon.child.kill(how);
      expect(await daemon.outcome).toMatchObject({ code: 0, stderr: '' });
      const path = daemon.path('image');
      expect(bitmapsInImage(path)).toEqual(['old auto 65536', 'new auto 65536']);
      expect(bitmapsByReference(path)).toEqual([
        expect.stringMatching(/^new recording 65536 /),
        expect.stringMatching(/^old recording 65536 /),
      ]);
      expect(checkImage(path)).toMatchObject({ status: 0 });
    });

    it('are stored when their node is deleted, and follow it into and out of a reopening', async () => {
      const daemon = await serving();
      const path = daemon.path('image');
      const options = (readOnly: boolean): BlockdevOptions => ({
        driver: 'qcow2',
        'node-name': 'n',
        'read-only': readOnly,
        file: { driver: 'file', filename: 'image' },
      });
      write(daemon, '1M');
      await daemon.qmp.execute('block-export-del', { id: 'e', mode: 'hard' });
      await daemon.qmp.execute('blockdev-reopen', { options: [options(true)] });
      expect(bitmapsInImage(path)).toEqual(['old auto 65536']);
      await daemon.qmp.execute('blockdev-reopen', { options: [options(false)] });
      expect(bitmapsInImage(path)).toEqual(['old in-use+auto 65536']);
      await daemon.qmp.execute('blockdev-del', { 'node-name': 'n' });
      expect(bitmapsInImage(path)).toEqual(['old auto 65536']);
      expect(checkImage(path)).toMatchObject({ status: 0 });
    });

    it.each([
      ['ours', undefined],
      ['the reference', ['qemu-storage-daemon']],
    ] as const)(
      'are inconsistent after SIGKILL of %s, here and in the reference, until they are removed',
      async (_, command) => {
        const daemon = await serving(command);
        await daemon.qmp.execute('block-dirty-bitmap-add', add);
        write(daemon, '1M');
        daemon.child.kill('SIGKILL');
        await daemon.outcome;
        const path = daemon.path('image');
        expect(bitmapsInImage(path)).toEqual(['old in-use+auto 65536']);
        expect(bitmapsByReference(path)).toEqual([expect.stringMatching(/^old inconsistent 0 /)]);
        const again = await withImage(path);
        expect(await listed(again)).toEqual([
          { name: 'old', inconsistent: true, recording: false, persistent: true },
        ]);
        const which = { node: 'n', name: 'old' };
        await expect(again.qmp.execute('block-dirty-bitmap-clear', which)).rejects.toThrow(
          "Bitmap 'old' is inconsistent and cannot be used",
        );
        await again.qmp.execute('block-dirty-bitmap-remove', which);
        await again.qmp.execute('quit');
        await again.outcome;
        expect(bitmapsInImage(path)).toEqual([]);
        expect(checkImage(path)).toMatchObject({ status: 0 });
      },
    );

    it('tell nbdinfo the same when they are exported after another start', async () => {
      const daemon = await serving();
      write(daemon, '1M');
      await daemon.qmp.execute('quit');
      await daemon.outcome;
      const again = await withImage(daemon.path('image'));
      await again.qmp.execute('block-dirty-bitmap-disable', { node: 'n', name: 'old' });
      await again.qmp.execute('nbd-server-start', {
        addr: { type: 'unix', data: { path: again.path('nbd2.sock') } },
      });
      await again.qmp.execute('block-export-add', {
        type: 'nbd',
        id: 'e',
        'node-name': 'n',
        bitmaps: ['old'],
      });
      const map = execFileSync('nbdinfo', [
        '--map=qemu:dirty-bitmap:old',
        '--json',
        `nbd+unix:///n?socket=${again.path('nbd2.sock')}`,
      ]).toString();
      const extents = JSON.parse(map) as { offset: number; length: number; type: number }[];
      expect(extents.filter(({ type }) => type === 1)).toMatchObject([
        { offset: MIB, length: 65536 },
      ]);
    });

    it.each(['cluster_size=65536', 'cluster_size=512'])(
      'never miss a change wherever writing ends, with %s',
      async (options) => {
        const directory = scratch();
        const path = createImage({ path: `${directory}/image`, size: MIB, options });
        for (const name of ['one', 'two']) qemuImg('bitmap', '--add', '-g', '4096', path, name);
        const before = readFileSync(path);
        const trail = new WriteTrail();
        trail.begin();
        const disk = await openDisk(path, {}, trail.drivers);
        const { graph, backend } = disk;
        const data = bufferOf(Buffer.alloc(10_000, 7));
        await backend.write(5000, 10_000, data, 0);
        await backend.flush();
        addDirtyBitmap(graph, {
          node: 'image',
          name: 'three',
          granularity: 4096,
          persistent: true,
        });
        await removeDirtyBitmap(graph, { node: 'image', name: 'two' });
        await backend.write(500_000, 10_000, data, 0);
        await disk.close();
        const state = `${directory}/state`;
        let stored = 0;
        for (const { bytes } of trail.states(before, random(1))) {
          writeFileSync(state, bytes);
          const check = checkImage(state);
          expect([0, 3], check.text).toContain(check.status);
          stored += await expectTruth(state);
        }
        expect(stored).toBeGreaterThan(4);
        expect(bitmapsInImage(path)).toEqual(['one auto 4096', 'three auto 4096']);
      },
    );
  },
);

/** As serving(), without an export. */
function withImage(path: string): Promise<TestDaemon> {
  const node = `qcow2,node-name=n,file.driver=file,file.filename=${path}`;
  return startDaemon({ args: ['--blockdev', node] });
}

async function listed({ qmp }: TestDaemon): Promise<unknown> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  const bitmaps = nodes.find((node) => node['node-name'] === 'n')?.['dirty-bitmaps'] ?? [];
  return bitmaps.map(({ name, inconsistent, recording, persistent }) => ({
    name,
    inconsistent,
    recording,
    persistent,
  }));
}

/** In an image whose disk was all zeroes, every bitmap that was there knows of all that is not. Answers how many there are. */
async function expectTruth(path: string): Promise<number> {
  const opened = await openDisk(path, { 'read-only': true });
  const { graph, backend } = opened;
  const disk = await contents(backend);
  const bitmaps = graph
    .find(undefined, 'image')
    .dirtyBitmaps.filter(({ name, inconsistent }) => name !== 'three' && !inconsistent);
  for (const bitmap of bitmaps) {
    for (let at = 0; at < disk.length; at += 512) {
      if (disk.subarray(at, at + 512).every((byte) => byte === 0)) continue;
      expect(bitmap.nextDirtyArea(at, at + 512), `${bitmap.name} at ${at}`).toBeDefined();
    }
  }
  await opened.close();
  return bitmaps.length;
}
