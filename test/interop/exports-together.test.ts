// One node in the hands of a virtual machine, a network client and a local program at once. The reference vouches for what is
// asked of ours, where it is installed.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { BlockExportOptions } from '../../src/qapi/generated/types.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { callsOn, rootFuseMissing, unmountLeftovers } from '../helpers/fuse.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { UserOfFile } from '../helpers/user-of-file.ts';
import { CMD, NbdWireClient } from '../protocol/nbd-wire-client.ts';
import { startDevice } from '../protocol/vhost-user/device.ts';
import { type Side, sides } from '../protocol/vhost-user/serve.ts';
import { BLK_S } from '../protocol/vhost-user/virtio-blk.ts';

const MIB = 1024 * 1024;
const BLOCK = 4096;

/** The node `n` over `a.img`, the NBD server's socket `nbd.sock`, the mountpoint `m`; `m` shows what is underneath. */
async function serve(side: Side): Promise<TestDaemon> {
  const directory = tempDir();
  writeFileSync(`${directory}/a.img`, Buffer.alloc(MIB, 0x11));
  writeFileSync(`${directory}/m`, 'underneath');
  onTestFinished(() => unmountLeftovers(`${directory}/m`));
  const daemon = await startDaemon({
    directory,
    command: side.command,
    args: [
      '--blockdev',
      // Without waiting for a disk that others may keep busy.
      'file,node-name=n,filename=a.img,cache.no-flush=on',
      '--nbd-server',
      'addr.type=unix,addr.path=nbd.sock',
    ],
  });
  onTestFinished(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.outcome;
  });
  return daemon;
}

const machine: BlockExportOptions = {
  type: 'vhost-user-blk',
  id: 'machine',
  'node-name': 'n',
  writable: true,
  addr: { type: 'unix', path: 'machine.sock' },
};
const network: BlockExportOptions = {
  type: 'nbd',
  id: 'network',
  'node-name': 'n',
  writable: true,
};
const program: BlockExportOptions = {
  type: 'fuse',
  id: 'program',
  'node-name': 'n',
  mountpoint: 'm',
};

async function idsOf({ qmp }: TestDaemon): Promise<string[]> {
  return (await qmp.execute('query-block-exports')).map(({ id }) => id);
}

/** What `blockdev-del` says; undefined when the node is gone. */
async function deletingNode({ qmp }: TestDaemon): Promise<string | undefined> {
  try {
    await qmp.execute('blockdev-del', { 'node-name': 'n' });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** As a local program sees it, past its own cache. */
async function mounted(daemon: TestDaemon, offset: number): Promise<string> {
  const [, line = ''] = await callsOn(daemon.path('m'), [
    ['open', 'O_RDONLY|O_DIRECT'],
    ['read direct', BLOCK, offset],
    ['close'],
  ]);
  return line.slice(-16);
}

const eight = (byte: number): string => Buffer.alloc(8, byte).toString('hex');

const reason = rootFuseMissing();

describe.skipIf(reason !== undefined).each(sides)(
  `several exports of one node${reason ? ` (${reason})` : ''}: $name`,
  (side) => {
    const test = it.skipIf(side.missing !== undefined);

    test('show each what the others have written', async () => {
      const daemon = await serve(side);
      for (const each of [machine, network, program]) {
        await daemon.qmp.execute('block-export-add', each);
      }
      const { disk } = await startDevice(daemon.path('machine.sock'));
      const client = await NbdWireClient.ready(daemon.path('nbd.sock'), {
        name: 'n',
        structured: false,
      });
      onTestFinished(() => client.close());
      const seen = async (offset: number): Promise<string[]> => {
        const guest = await disk.read(offset, BLOCK);
        const [reply] = await client.request({ type: CMD.READ, offset, length: BLOCK }, BLOCK);
        expect(guest.status).toBe(BLK_S.OK);
        return [
          guest.in.subarray(0, 8).toString('hex'),
          String(reply?.data.subarray(0, 8).toString('hex')),
          await mounted(daemon, offset),
        ];
      };
      expect(await seen(0)).toEqual(Array(3).fill(eight(0x11)));
      expect((await disk.write(0, Buffer.alloc(BLOCK, 0x22))).status).toBe(BLK_S.OK);
      expect(await seen(0)).toEqual(Array(3).fill(eight(0x22)));
      const payload = Buffer.alloc(BLOCK, 0x33);
      expect(await client.request({ type: CMD.WRITE, offset: 0, payload })).toMatchObject([
        { error: 0 },
      ]);
      expect(await seen(0)).toEqual(Array(3).fill(eight(0x33)));
      expect((await disk.writeZeroes(BLOCK, BLOCK)).status).toBe(BLK_S.OK);
      expect(await seen(BLOCK)).toEqual(Array(3).fill(eight(0)));
      expect(await client.request({ type: CMD.FLUSH, length: 0 })).toMatchObject([{ error: 0 }]);
      const image = readFileSync(daemon.path('a.img'));
      expect(image.subarray(0, 2 * BLOCK)).toEqual(Buffer.concat([payload, Buffer.alloc(BLOCK)]));
    });

    test('a program and a machine both write', async () => {
      const daemon = await serve(side);
      await daemon.qmp.execute('block-export-add', machine);
      await daemon.qmp.execute('block-export-add', { ...program, writable: true });
      const { disk } = await startDevice(daemon.path('machine.sock'));
      const user = await UserOfFile.open(daemon.path('m'));
      expect(await user.call('write', 0x44, BLOCK, 0)).toContain(`-> ${BLOCK}`);
      expect((await disk.read(0, BLOCK)).in).toEqual(Buffer.alloc(BLOCK, 0x44));
      expect((await disk.write(BLOCK, Buffer.alloc(BLOCK, 0x55))).status).toBe(BLK_S.OK);
      expect(await mounted(daemon, BLOCK)).toBe(eight(0x55));
      await user.close();
    });

    test('keep the node until the last of them is gone, whoever still uses them', async () => {
      const daemon = await serve(side);
      const { qmp } = daemon;
      for (const each of [machine, network, program]) await qmp.execute('block-export-add', each);
      const { disk, frontend } = await startDevice(daemon.path('machine.sock'));
      const client = await NbdWireClient.ready(daemon.path('nbd.sock'), { name: 'n' });
      onTestFinished(() => client.close());
      const user = await UserOfFile.open(daemon.path('m'), 'O_RDONLY');
      const deleted: string[] = [];
      qmp.onEvent((event) => {
        if (event.event === 'BLOCK_EXPORT_DELETED') deleted.push(event.data.id);
      });
      expect(await idsOf(daemon)).toEqual(['program', 'network', 'machine']);
      expect(await deletingNode(daemon)).toBe('Node n is in use');

      // Who has the file open, or is the disk of a machine, does not count as a user: a client of NBD does.
      await expect(qmp.execute('block-export-del', { id: 'network' })).rejects.toThrow(
        "export 'network' still in use",
      );
      await qmp.execute('block-export-del', { id: 'program', mode: 'safe' });
      expect(await user.call('read', 8, 0)).toContain('ENOTCONN');
      expect(readFileSync(daemon.path('m'), 'utf8')).toBe('underneath');
      expect(await idsOf(daemon)).toEqual(['network', 'machine']);
      expect(await deletingNode(daemon)).toBe('Node n is in use');

      expect((await disk.write(0, Buffer.alloc(512, 0x66))).status).toBe(BLK_S.OK);
      await qmp.execute('block-export-del', { id: 'machine', mode: 'safe' });
      await frontend.ended;
      expect(await idsOf(daemon)).toEqual(['network']);
      expect(await deletingNode(daemon)).toBe('Node n is in use');

      const gone = qmp.waitForEvent('BLOCK_EXPORT_DELETED', {
        accept: ({ id }) => id === 'network',
      });
      await qmp.execute('block-export-del', { id: 'network', mode: 'hard' });
      await gone;
      expect(await idsOf(daemon)).toEqual([]);
      expect(deleted).toEqual(['program', 'machine', 'network']);
      expect(await deletingNode(daemon)).toBeUndefined();
      expect(readFileSync(daemon.path('a.img')).subarray(0, 512)).toEqual(Buffer.alloc(512, 0x66));
      await user.close();
    });

    test('all end with the daemon', async () => {
      const daemon = await serve(side);
      const { qmp } = daemon;
      for (const each of [machine, network, program]) await qmp.execute('block-export-add', each);
      const { frontend } = await startDevice(daemon.path('machine.sock'));
      const client = await NbdWireClient.ready(daemon.path('nbd.sock'), { name: 'n' });
      onTestFinished(() => client.close());
      const user = await UserOfFile.open(daemon.path('m'), 'O_RDONLY');
      const deleted: string[] = [];
      qmp.onEvent((event) => {
        if (event.event === 'BLOCK_EXPORT_DELETED') deleted.push(event.data.id);
      });
      await qmp.execute('quit');
      expect(await daemon.outcome).toMatchObject({ code: 0 });
      await frontend.ended;
      await user.close();
      expect(deleted).toEqual(['network', 'program', 'machine']);
      expect(readFileSync(daemon.path('m'), 'utf8')).toBe('underneath');
    });
  },
);
