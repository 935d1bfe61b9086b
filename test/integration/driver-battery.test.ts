// What every block driver owes to its users: one battery of tests, over NBD, for each driver that `blockdev-add` knows. The
// compiler asks for a row when there is a new one.

import { symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDaemon, type InProcessDaemon } from '../../src/index.ts';
import type { BlockdevDriver, BlockdevOptions } from '../../src/qapi/generated/types.ts';
import { loopMissing } from '../helpers/fuse.ts';
import { noRings } from '../helpers/io-uring.ts';
import { loopDevice } from '../helpers/loop-device.ts';
import { random } from '../helpers/qcow2-disk.ts';
import { smallQcow2 } from '../helpers/small-qcow2.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import {
  CHUNK,
  CMD,
  errorOf,
  FLAG,
  NbdWireClient,
  type Request,
} from '../protocol/nbd-wire-client.ts';
import { memoryDisk } from './memory-disk.ts';

const SIZE = 1024 * 1024;
const CLUSTER = 64 * 1024;
/** What the reference answers whenever it looks no further at a request. */
const EINVAL = 22;

interface Row {
  /** Options of the node, without its name and driver. */
  readonly options: (directory: string) => object;
  /** What has to be there before. */
  readonly prepare?: (daemon: InProcessDaemon, directory: string) => Promise<unknown>;
  /** What is special about it, where there is another row for this driver. */
  readonly way?: string;
  /** Why it cannot be tested here. */
  readonly missing?: string | undefined;
  /** What it is instead of a disk that keeps what is written. */
  readonly is?: 'nothing' | 'read-only' | 'written once';
  /** Bytes that discards have to be multiples of, as for the reference; otherwise 1. */
  readonly discardUnit?: number;
  /** It writes below whether its users do or not. */
  readonly needsWriting?: boolean;
}

const file = (directory: string, name = 'image') => ({
  driver: 'file',
  filename: path.join(directory, name),
});

const add = (daemon: InProcessDaemon, options: object): Promise<unknown> =>
  daemon.execute('blockdev-add', options as BlockdevOptions);

/** An NBD server in another daemon. */
async function serveElsewhere(directory: string): Promise<void> {
  const server = await daemonOf();
  await server.addDisk('disk', memoryDisk(new Uint8Array(SIZE)));
  const socket = path.join(directory, 'server.sock');
  await server.execute('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await server.execute('block-export-add', {
    type: 'nbd',
    id: 'e',
    'node-name': 'disk',
    writable: true,
  });
}

const rows = {
  blkdebug: { options: (directory) => ({ image: file(directory) }) },
  blklogwrites: {
    options: (directory) => ({
      file: file(directory),
      log: { driver: 'null-co', size: 64 * SIZE },
    }),
  },
  blkverify: {
    options: (directory) => ({ raw: file(directory), test: file(directory, 'other') }),
  },
  compress: {
    options: (directory) => ({ file: { driver: 'qcow2', file: file(directory, 'qcow2') } }),
    is: 'written once',
  },
  'copy-before-write': {
    options: (directory) => ({ file: file(directory), target: file(directory, 'other') }),
    needsWriting: true,
  },
  'copy-on-read': {
    options: (directory) => ({ file: { driver: 'qcow2', file: file(directory, 'qcow2') } }),
    needsWriting: true,
  },
  file: { options: (directory) => ({ filename: path.join(directory, 'image') }) },
  'snapshot-access': {
    prepare: (daemon, directory) =>
      add(daemon, {
        driver: 'copy-before-write',
        'node-name': 'below',
        file: file(directory),
        target: file(directory, 'other'),
      }),
    options: () => ({ file: 'below' }),
    is: 'read-only',
  },
  host_device: {
    missing: loopMissing(),
    prepare: async (_daemon, directory) =>
      symlinkSync(loopDevice(path.join(directory, 'image')), path.join(directory, 'device')),
    options: (directory) => ({ filename: path.join(directory, 'device') }),
    discardUnit: 512,
  },
  nbd: {
    prepare: (_daemon, directory) => serveElsewhere(directory),
    options: (directory) => ({
      server: { type: 'unix', path: path.join(directory, 'server.sock') },
      export: 'disk',
    }),
  },
  'null-aio': { options: () => ({ size: SIZE, 'read-zeroes': true }), is: 'nothing' },
  'null-co': { options: () => ({ size: SIZE, 'read-zeroes': true }), is: 'nothing' },
  preallocate: { options: (directory) => ({ file: file(directory) }) },
  qcow2: { options: (directory) => ({ file: file(directory, 'qcow2') }) },
  quorum: {
    options: (directory) => ({
      children: [file(directory), file(directory, 'other')],
      'vote-threshold': 2,
    }),
  },
  raw: { options: (directory) => ({ file: file(directory) }) },
  throttle: {
    prepare: (daemon) =>
      daemon.execute('object-add', {
        'qom-type': 'throttle-group',
        id: 'group',
        limits: { 'iops-total': 1_000_000 },
      }),
    options: (directory) => ({ file: file(directory), 'throttle-group': 'group' }),
  },
} satisfies Record<BlockdevDriver, Row>;

/** How `file` makes its requests, where that is not left to it. */
const ways: Partial<Row>[] = [
  {
    way: 'aio=threads',
    options: (directory) => ({ ...rows.file.options(directory), aio: 'threads' }),
  },
  {
    way: 'aio=io_uring',
    options: (directory) => ({ ...rows.file.options(directory), aio: 'io_uring' }),
    missing: noRings,
  },
  {
    way: 'aio=io_uring, past the cache',
    options: (directory) => ({
      ...rows.file.options(directory),
      aio: 'io_uring',
      cache: { direct: true },
    }),
    discardUnit: 512,
    missing: noRings,
  },
];

async function daemonOf(): Promise<InProcessDaemon> {
  const daemon = createDaemon({ log: { error() {}, warn() {}, debug() {} } });
  onTestFinished(() => daemon.close());
  return daemon;
}

interface Served {
  readonly daemon: InProcessDaemon;
  readonly options: object;
  readonly socket: string;
  readonly connect: (contexts?: readonly string[]) => Promise<NbdWireClient>;
}

async function served(driver: string, row: Row, more: object = {}): Promise<Served> {
  const directory = tempDir();
  for (const name of ['image', 'other']) {
    writeFileSync(path.join(directory, name), '');
    truncateSync(path.join(directory, name), SIZE);
  }
  writeFileSync(path.join(directory, 'qcow2'), smallQcow2({ size: SIZE }));
  const daemon = await daemonOf();
  await row.prepare?.(daemon, directory);
  const own: object = { driver, 'node-name': 'top', ...row.options(directory) };
  const options = { discard: 'unmap', ...own, ...more };
  await add(daemon, options);
  const socket = path.join(directory, 'nbd.sock');
  await daemon.execute('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await exportTop(daemon, !('read-only' in more) && row.is !== 'read-only');
  return {
    daemon,
    options,
    socket,
    connect: async (contexts) => {
      const structured = contexts !== undefined;
      const client = await NbdWireClient.ready(socket, {
        name: 'top',
        structured,
        ...(contexts === undefined ? {} : { contexts: [...contexts] }),
      });
      onTestFinished(() => client.close());
      return client;
    },
  };
}

async function exportTop(daemon: InProcessDaemon, writable: boolean): Promise<void> {
  await daemon.execute('block-export-add', {
    type: 'nbd',
    id: 'top',
    'node-name': 'top',
    name: 'top',
    writable,
  });
}

/** The export, once its clients are gone, and the node. */
async function removeTop(daemon: InProcessDaemon): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    daemon.on('BLOCK_EXPORT_DELETED', () => resolve());
  });
  await daemon.execute('block-export-del', { id: 'top', mode: 'hard' });
  await gone;
  await daemon.execute('blockdev-del', { 'node-name': 'top' });
}

async function fails(client: NbdWireClient, request: Request): Promise<number> {
  return errorOf((await client.request(request)).at(-1))?.error ?? 0;
}

async function read(client: NbdWireClient, offset: number, length: number): Promise<Buffer> {
  const [reply] = await client.request({ type: CMD.READ, offset, length }, length);
  if (reply === undefined || errorOf(reply)?.error !== 0) throw new Error('not read');
  return reply.data;
}

/** The extents of the disk: whether they read as zeroes. */
async function extents(client: NbdWireClient): Promise<{ length: number; isZero: boolean }[]> {
  const found: { length: number; isZero: boolean }[] = [];
  for (let offset = 0; offset < SIZE; ) {
    const replies = await client.request({ type: CMD.BLOCK_STATUS, offset, length: SIZE - offset });
    const status = replies.find(
      (reply) => reply.kind === 'chunk' && reply.type === CHUNK.BLOCK_STATUS,
    );
    const data = status?.data.subarray(4) ?? Buffer.alloc(0);
    expect(data.length).toBeGreaterThan(0);
    for (let at = 0; at < data.length; at += 8) {
      const length = data.readUInt32BE(at);
      found.push({ length, isZero: (data.readUInt32BE(at + 4) & 2) !== 0 });
      offset += length;
    }
  }
  return found;
}

/** Requests of all kinds, at random; answers what the disk must have then. `undefined` where it was discarded. */
async function work(client: NbdWireClient, discardUnit: number): Promise<(number | undefined)[]> {
  const next = random(1);
  const bytes: (number | undefined)[] = Array.from({ length: SIZE }, () => 0);
  for (let count = 0; count < 60; count++) {
    const length = 1 + Math.floor(next() ** 3 * 200_000);
    const offset = Math.floor(next() * (SIZE - length));
    const kind = next();
    const flags = next() < 0.2 ? FLAG.FUA : 0;
    const value = 1 + Math.floor(next() * 255);
    if (kind < 0.5) {
      const payload = Buffer.alloc(length, value);
      expect(await fails(client, { type: CMD.WRITE, flags, offset, length, payload })).toBe(0);
      bytes.fill(value, offset, offset + length);
    } else if (kind < 0.7) {
      expect(await fails(client, { type: CMD.WRITE_ZEROES, flags, offset, length })).toBe(0);
      bytes.fill(0, offset, offset + length);
    } else if (kind < 0.8) {
      const start = offset - (offset % discardUnit);
      const size = Math.ceil(length / discardUnit) * discardUnit;
      expect(await fails(client, { type: CMD.TRIM, offset: start, length: size })).toBe(0);
      bytes.fill(undefined, start, start + size);
    } else if (kind < 0.85) {
      expect(await fails(client, { type: CMD.FLUSH })).toBe(0);
    } else {
      expectBytes(await read(client, offset, length), bytes, offset);
    }
  }
  return bytes;
}

function expectBytes(seen: Buffer, bytes: readonly (number | undefined)[], offset = 0): void {
  const wrong = seen.findIndex((byte, at) => byte !== (bytes[offset + at] ?? byte));
  expect([wrong, seen[wrong]]).toEqual([-1, undefined]);
}

for (const [driver, row] of Object.entries<Row>(rows)) battery(driver, row);
for (const way of ways) battery('file', { ...rows.file, ...way });

function battery(driver: string, row: Row): void {
  const keeps = row.is === undefined;
  const { missing, way } = row;
  const what = way === undefined ? driver : `${driver}, ${way}`;

  describe.skipIf(missing !== undefined)(`${what}${missing ? ` (${missing})` : ''}`, () => {
    if (keeps)
      it('keeps what is written, and says where there are zeroes', async () => {
        const { daemon, options, connect } = await served(driver, row);
        const bytes = await work(await connect(), row.discardUnit ?? 1);
        const client = await connect();
        const status = await connect(['base:allocation']);
        const all = await read(client, 0, SIZE);
        expectBytes(all, bytes);
        let offset = 0;
        for (const { length, isZero } of await extents(status)) {
          if (isZero)
            expect(all.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true);
          offset += length;
        }
        expect(offset).toBe(SIZE);
        // And it is there when the node is opened again.
        await removeTop(daemon);
        await add(daemon, options);
        await exportTop(daemon, true);
        expectBytes(await read(await connect(), 0, SIZE), bytes);
      });

    if (row.is === 'written once')
      it('keeps what is written, once', async () => {
        const { connect } = await served(driver, row);
        const client = await connect();
        for (let offset = 0; offset < SIZE; offset += CLUSTER) {
          const payload = Buffer.alloc(CLUSTER, offset / CLUSTER);
          expect(await fails(client, { type: CMD.WRITE, offset, length: CLUSTER, payload })).toBe(
            0,
          );
        }
        const seen = await read(client, 0, SIZE);
        expect(seen.every((byte, at) => byte === Math.floor(at / CLUSTER))).toBe(true);
      });

    if (row.is !== 'read-only')
      it('takes many requests at a time', async () => {
        const { connect } = await served(driver, row);
        const client = await connect();
        const count = SIZE / CLUSTER;
        for (let at = 0; at < count; at++) {
          client.sendRequest({
            type: CMD.WRITE,
            cookie: BigInt(at),
            offset: at * CLUSTER,
            length: CLUSTER,
            payload: Buffer.alloc(CLUSTER, at + 1),
          });
        }
        const cookies = new Set<bigint>();
        for (let at = 0; at < count; at++) {
          const reply = await client.reply();
          expect(errorOf(reply)?.error).toBe(0);
          cookies.add(reply.cookie);
        }
        expect(cookies.size).toBe(count);
        const seen = await read(client, 0, SIZE);
        const value = (at: number): number =>
          row.is === 'nothing' ? 0 : 1 + Math.floor(at / CLUSTER);
        expect(seen.every((byte, at) => byte === value(at))).toBe(true);
      });

    it('does not go beyond its end', async () => {
      const { connect } = await served(driver, row);
      const client = await connect();
      const beyond = { offset: SIZE - 512, length: 1024 };
      expect(await fails(client, { type: CMD.READ, ...beyond })).toBe(EINVAL);
      if (row.is === 'read-only') return;
      const payload = Buffer.alloc(1024);
      expect(await fails(client, { type: CMD.WRITE, ...beyond, payload })).toBe(EINVAL);
      expect(await fails(client, { type: CMD.WRITE_ZEROES, ...beyond })).toBe(EINVAL);
      expect(await fails(client, { type: CMD.TRIM, ...beyond })).toBe(EINVAL);
      expect((await read(client, SIZE - 512, 512)).length).toBe(512);
    });

    it('is not written when it is read-only', async () => {
      if (row.needsWriting === true) {
        await expect(served(driver, row, { 'read-only': true })).rejects.toThrow(
          'Block node is read-only',
        );
        return;
      }
      const only = row.is === 'read-only' ? {} : { 'read-only': true };
      const { daemon, connect } = await served(driver, row, only);
      const client = await connect();
      const area = { offset: 0, length: 512 };
      expect(await fails(client, { type: CMD.WRITE, ...area, payload: Buffer.alloc(512) })).toBe(
        EINVAL,
      );
      expect(await fails(client, { type: CMD.WRITE_ZEROES, ...area })).toBe(EINVAL);
      expect(await fails(client, { type: CMD.TRIM, ...area })).toBe(EINVAL);
      expect((await read(client, 0, SIZE)).every((byte) => byte === 0)).toBe(true);
      // It could be, as far as its options go.
      if (row.is === 'read-only') return;
      const again = {
        type: 'nbd',
        id: 'again',
        'node-name': 'top',
        name: 'a',
        writable: true,
      } as const;
      await expect(daemon.execute('block-export-add', again)).rejects.toThrow(
        'Cannot export read-only node as writable',
      );
    });

    it('refuses options that it does not have, and a name that is taken', async () => {
      const { daemon, options } = await served(driver, row);
      await expect(add(daemon, { ...options, 'node-name': 'x', bogus: 1 })).rejects.toThrow(
        "Parameter 'bogus' is unexpected",
      );
      await expect(add(daemon, { driver: 'null-co', 'node-name': 'top' })).rejects.toThrow(
        "Duplicate nodes with node-name='top'",
      );
      const nodes = await daemon.execute('query-named-block-nodes', { flat: true });
      expect(nodes.filter((node) => node['node-name'] === 'x')).toEqual([]);
      expect(nodes.find((node) => node['node-name'] === 'top')?.drv).toBe(driver);
    });

    it('is in use while it is exported, and goes with what it opened', async () => {
      const { daemon } = await served(driver, row);
      await expect(daemon.execute('blockdev-del', { 'node-name': 'top' })).rejects.toThrow(
        'in use',
      );
      await removeTop(daemon);
      const left = await daemon.execute('query-named-block-nodes', { flat: true });
      const prepared = left.some((node) => node['node-name'] === 'below');
      expect(left.length).toBe(prepared ? 3 : 0);
    });
  });
}
