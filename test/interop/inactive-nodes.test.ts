// Handing an image over to another process: inactive nodes, which give up the locks of their image, and what is true of the image
// when they become active again.

import { once } from 'node:events';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockDeviceInfo } from '../../src/qapi/generated/types.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { askReference, bitmapsByReference, bitmapsInImage } from '../helpers/qcow2-bitmaps.ts';
import { checkImage, createImage, noQemuImg, qemuImg } from '../helpers/qcow2-images.ts';
import { missing, referenceMissing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { run, succeed } from './serve.ts';

const MIB = 2 ** 20;
const reason = noQemuImg ?? referenceMissing() ?? missing('qemu-io');

const image = {
  driver: 'qcow2',
  'node-name': 'n',
  file: { driver: 'file', filename: 'image' },
} as const;

/** Daemons of ours in one directory, each with monitor and NBD socket of its own, over `image`. */
async function daemonOver(directory: string, name: string, active: boolean): Promise<TestDaemon> {
  const daemon = await startDaemon({
    args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
  });
  const file = { driver: 'file', filename: `${directory}/image` } as const;
  await daemon.qmp.execute('blockdev-add', { ...image, file, active, 'node-name': name });
  return daemon;
}

async function nodeOf({ qmp }: TestDaemon, name: string): Promise<BlockDeviceInfo> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  const found = nodes.find((node) => node['node-name'] === name);
  if (found === undefined) throw new Error(`There is no node ${name}`);
  return found;
}

async function bitmapsOf(daemon: TestDaemon, name: string): Promise<string[]> {
  const { 'dirty-bitmaps': bitmaps = [] } = await nodeOf(daemon, name);
  return bitmaps
    .map(
      (bitmap) => `${bitmap.name} ${bitmap.count} ${bitmap.inconsistent === true ? 'bad' : 'good'}`,
    )
    .toSorted();
}

function uriOf(daemon: TestDaemon, name: string): string {
  return `nbd+unix:///${name}?socket=${daemon.path('nbd.sock')}`;
}

/** Lets qemu-io do something to the node, over an export that exists only for that. */
async function through(daemon: TestDaemon, node: string, ...commands: string[]): Promise<void> {
  await daemon.qmp.execute('block-export-add', {
    type: 'nbd',
    id: 'through',
    'node-name': node,
    name: 'through',
    writable: true,
  });
  const args = commands.flatMap((command) => ['-c', command]);
  await succeed('qemu-io', '-f', 'raw', ...args, uriOf(daemon, 'through'));
  await daemon.qmp.execute('block-export-del', { id: 'through', mode: 'hard' });
}

function setActive({ qmp }: TestDaemon, name: string, active: boolean): Promise<unknown> {
  return qmp.execute('blockdev-set-active', { 'node-name': name, active });
}

function prepared(): string {
  const directory = tempDir();
  createImage({ path: `${directory}/image`, size: 8 * MIB });
  qemuImg('bitmap', '--add', `${directory}/image`, 'old');
  return directory;
}

function sound(directory: string): void {
  expect(checkImage(`${directory}/image`)).toMatchObject({ status: 0 });
}

describe.skipIf(reason !== undefined)(
  `inactive nodes${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    it('an image goes to another daemon and back, with what was written and its bitmaps', async () => {
      const directory = prepared();
      const source = await daemonOver(directory, 's', true);
      const target = await daemonOver(directory, 't', false);
      expect(await nodeOf(target, 't')).toMatchObject({ active: false });
      expect(await nodeOf(source, 's')).not.toHaveProperty('active');
      // Whoever has the image has its locks.
      await expect(setActive(target, 't', true)).rejects.toThrow('Failed to get "write" lock');
      expect(await nodeOf(target, 't')).toMatchObject({ active: false });

      await through(source, 's', 'write -P 1 0 64k', 'write -P 2 4M 64k');
      await source.qmp.execute('block-dirty-bitmap-add', {
        node: 's',
        name: 'new',
        persistent: true,
      });
      await through(source, 's', 'write -P 3 5M 64k');
      const handedOver = await bitmapsOf(source, 's');
      expect(handedOver).toEqual(['new 65536 good', 'old 196608 good']);
      await setActive(source, 's', false);
      expect(await bitmapsOf(source, 's')).toEqual([]);
      expect(bitmapsInImage(`${directory}/image`)).toEqual(['old auto 65536', 'new auto 65536']);
      sound(directory);

      await setActive(target, 't', true);
      expect(await nodeOf(target, 't')).not.toHaveProperty('active');
      expect(await bitmapsOf(target, 't')).toEqual(handedOver);
      await expect(setActive(source, 's', true)).rejects.toThrow('Failed to get "write" lock');
      await target.qmp.execute('block-dirty-bitmap-remove', { node: 't', name: 'old' });
      await target.qmp.execute('block_resize', { 'node-name': 't', size: 16 * MIB });
      await through(target, 't', 'read -P 1 0 64k', 'read -P 3 5M 64k', 'write -P 4 6M 1M');
      const returned = await bitmapsOf(target, 't');
      await setActive(target, 't', false);

      await setActive(source, 's', true);
      expect(await bitmapsOf(source, 's')).toEqual(returned);
      await through(source, 's', 'read -P 2 4M 64k', 'read -P 4 6M 1M', 'write -P 5 6M 64k');
      expect((await nodeOf(source, 's')).image['virtual-size']).toBe(
        (await nodeOf(target, 't')).image['virtual-size'],
      );
      for (const { qmp, outcome } of [target, source]) {
        await qmp.execute('quit');
        expect(await outcome).toMatchObject({ code: 0, stderr: '' });
      }
      sound(directory);
      expect(bitmapsByReference(`${directory}/image`)).toHaveLength(1);
    });

    it('what the reference and qemu-io did to it meanwhile is there', async () => {
      const directory = prepared();
      const path = `${directory}/image`;
      const daemon = await daemonOver(directory, 'n', true);
      await through(daemon, 'n', 'write -P 1 0 1M');
      expect((await run('qemu-io', ['-c', 'write -P 9 0 64k', path])).status).not.toBe(0);
      await setActive(daemon, 'n', false);
      const { returned } = askReference(path, [
        ['block-dirty-bitmap-remove', { node: 'n', name: 'old' }],
        ['block_resize', { 'node-name': 'n', size: 20 * MIB }],
        ['block-dirty-bitmap-add', { node: 'n', name: 'theirs', persistent: true }],
        ['blockdev-snapshot-internal-sync', { device: 'n', name: 'snap' }],
      ]);
      expect(returned).toEqual([{}, {}, {}, {}]);
      await succeed('qemu-io', '-c', 'write -P 2 512k 1M', '-c', 'write -P 3 19M 64k', path);
      await setActive(daemon, 'n', true);
      const node = await nodeOf(daemon, 'n');
      expect(node.image['virtual-size']).toBe(20 * MIB);
      expect(node.image.snapshots?.map(({ name }) => name)).toEqual(['snap']);
      expect(await bitmapsOf(daemon, 'n')).toEqual([`theirs ${1 * MIB + 64 * 1024} good`]);
      await through(
        daemon,
        'n',
        'read -P 1 0 512k',
        'read -P 2 512k 1M',
        'read -P 3 19M 64k',
        'write -P 4 0 2M',
        'read -P 4 0 2M',
      );
      expect((await run('qemu-io', ['-c', 'write 0 64k', path])).status).not.toBe(0);
      await daemon.qmp.execute('quit');
      await daemon.outcome;
      sound(directory);
    });

    it('every change of a chain of images is followed, and a backing file in use stays', async () => {
      const directory = prepared();
      const overlay = `${directory}/overlay`;
      createImage({
        path: overlay,
        options: `backing_file=${directory}/image,backing_fmt=qcow2`,
        size: 8 * MIB,
      });
      await succeed('qemu-io', '-c', 'write -P 1 0 1M', `${directory}/image`);
      const daemon = await startDaemon({
        args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
      });
      const { qmp } = daemon;
      await qmp.execute('blockdev-add', {
        driver: 'qcow2',
        'node-name': 'base',
        file: { driver: 'file', filename: `${directory}/image`, 'node-name': 'base-file' },
      });
      await qmp.execute('blockdev-add', {
        driver: 'qcow2',
        'node-name': 'top',
        file: { driver: 'file', filename: overlay, 'node-name': 'top-file' },
        backing: 'base',
      });
      await expect(setActive(daemon, 'base', false)).rejects.toThrow('Node has active parent node');
      await qmp.execute('blockdev-add', {
        driver: 'raw',
        'node-name': 'second',
        file: 'base',
        'read-only': true,
      });
      await setActive(daemon, 'top', false);
      const activity = async (): Promise<string[]> => {
        const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
        return nodes
          .filter(({ active }) => active === false)
          .map((node) => node['node-name'] ?? '')
          .toSorted();
      };
      expect(await activity()).toEqual(['top', 'top-file']);
      await qmp.execute('blockdev-set-active', { active: false });
      expect(await activity()).toEqual(['base', 'base-file', 'second', 'top', 'top-file']);
      await succeed('qemu-img', 'commit', '-q', '-d', overlay);
      await succeed('qemu-io', '-c', 'write -P 2 512k 64k', overlay);
      await setActive(daemon, 'top', true);
      expect(await activity()).toEqual(['second']);
      await through(daemon, 'top', 'read -P 1 0 512k', 'read -P 2 512k 64k', 'write -P 3 0 64k');
      await qmp.execute('blockdev-set-active', { active: true });
      expect(await activity()).toEqual([]);
    });

    it.each(['raw', 'file'] as const)(
      'a %s node that another made longer has its new length',
      async (driver) => {
        const directory = tempDir();
        writeFileSync(`${directory}/disk`, Buffer.alloc(MIB, 1));
        const daemon = await startDaemon({
          args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
        });
        const { qmp } = daemon;
        const file = {
          driver: 'file',
          filename: `${directory}/disk`,
          'auto-read-only': true,
        } as const;
        await qmp.execute(
          'blockdev-add',
          driver === 'file' ? { ...file, 'node-name': 'n' } : { driver, 'node-name': 'n', file },
        );
        await qmp.execute('block-dirty-bitmap-add', { node: 'n', name: 'b' });
        await setActive(daemon, 'n', false);
        truncateSync(`${directory}/disk`, 2 * MIB);
        await setActive(daemon, 'n', true);
        expect((await nodeOf(daemon, 'n')).image['virtual-size']).toBe(2 * MIB);
        await through(daemon, 'n', 'write -P 2 1984k 64k', 'read -P 0 1M 512k');
        expect(await bitmapsOf(daemon, 'n')).toEqual(['b 65536 good']);
      },
    );

    it('a daemon that is killed while the image is away leaves nothing behind', async () => {
      const directory = prepared();
      const daemon = await daemonOver(directory, 'n', true);
      await through(daemon, 'n', 'write -P 1 0 1M');
      await setActive(daemon, 'n', false);
      await succeed('qemu-io', '-c', 'write -P 2 1M 64k', `${directory}/image`);
      daemon.child.kill('SIGKILL');
      await once(daemon.child, 'exit');
      sound(directory);
      expect(bitmapsInImage(`${directory}/image`)).toEqual(['old auto 65536']);
      const next = await daemonOver(directory, 'n', true);
      expect(await bitmapsOf(next, 'n')).toEqual([`old ${MIB + 65536} good`]);
      await through(next, 'n', 'read -P 1 0 1M', 'read -P 2 1M 64k');
    });

    it('nothing is written to an image that is closed while it is inactive', async () => {
      const directory = prepared();
      const daemon = await daemonOver(directory, 'n', true);
      await through(daemon, 'n', 'write -P 1 0 1M');
      await setActive(daemon, 'n', false);
      await succeed('qemu-img', 'bitmap', '--remove', `${directory}/image`, 'old');
      const { mtimeMs } = statSync(`${directory}/image`);
      await daemon.qmp.execute('blockdev-del', { 'node-name': 'n' });
      expect(statSync(`${directory}/image`).mtimeMs).toBe(mtimeMs);
      sound(directory);
    });
  },
);
