// Breakpoints of blkdebug, used by a program with the daemon in it: requests of an NBD client stop, and go on when told to.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type Breakpoints, createDaemon, type InProcessDaemon } from '../../src/index.ts';
import { smallQcow2 } from '../helpers/small-qcow2.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { CMD, NbdWireClient, type Reply } from '../protocol/nbd-wire-client.ts';

const SIZE = 1024 * 1024;

interface Debugged {
  readonly daemon: InProcessDaemon;
  readonly breakpoints: Breakpoints;
  readonly client: NbdWireClient;
}

/** A qcow2 image over blkdebug over a file, as an export. */
async function debugged(rules: object = {}): Promise<Debugged> {
  const daemon = createDaemon({ log: { error() {}, warn() {}, debug() {} } });
  onTestFinished(() => daemon.close());
  const directory = tempDir();
  const filename = path.join(directory, 'image');
  const socket = path.join(directory, 'nbd.sock');
  writeFileSync(filename, smallQcow2({ size: SIZE, data: [0] }));
  const image = { driver: 'file', filename } as const;
  await daemon.execute('blockdev-add', {
    driver: 'blkdebug',
    'node-name': 'debug',
    image,
    ...rules,
  });
  await daemon.execute('blockdev-add', { driver: 'qcow2', 'node-name': 'disk', file: 'debug' });
  await daemon.execute('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await daemon.execute('block-export-add', {
    type: 'nbd',
    id: 'e',
    'node-name': 'disk',
    name: '',
    writable: true,
  });
  const client = await NbdWireClient.ready(socket, { structured: false });
  onTestFinished(() => client.close());
  return { daemon, breakpoints: await daemon.breakpoints('debug'), client };
}

const write = (cookie: bigint, offset: number) => ({
  type: CMD.WRITE,
  cookie,
  offset,
  length: 512,
  payload: Buffer.alloc(512, 1),
});

const cookieOf = ({ cookie }: Reply): bigint => cookie;

it('stop a request while others go on, until it is resumed', async () => {
  const { breakpoints, client } = await debugged();
  await client.request(write(1n, 0));
  await client.request({ type: CMD.FLUSH });
  breakpoints.add('write_aio', 'a');
  expect(breakpoints.isSuspended('a')).toBe(false);
  client.sendRequest(write(2n, 0));
  await breakpoints.suspended('a');
  expect(breakpoints.isSuspended('a')).toBe(true);
  client.sendRequest(write(3n, 4096));
  expect(cookieOf(await client.reply())).toBe(3n);
  expect(breakpoints.resume('b')).toBe(false);
  expect(breakpoints.resume('a')).toBe(true);
  expect(cookieOf(await client.reply())).toBe(2n);
  expect(breakpoints.resume('a')).toBe(false);
});

it('are there once, and as many times as they were added', async () => {
  const { breakpoints, client } = await debugged();
  await client.request(write(1n, 0));
  breakpoints.add('write_aio', 'a');
  breakpoints.add('write_aio', 'b');
  client.sendRequest(write(2n, 0));
  await Promise.all([breakpoints.suspended('a'), breakpoints.suspended('b')]);
  breakpoints.resume('a');
  client.sendRequest(write(3n, 4096));
  expect(cookieOf(await client.reply())).toBe(3n);
  breakpoints.resume('b');
  expect(cookieOf(await client.reply())).toBe(2n);
});

it('go with their requests when they are removed', async () => {
  const { breakpoints, client } = await debugged();
  await client.request(write(1n, 0));
  breakpoints.add('write_aio', 'a');
  breakpoints.add('flush_to_disk', 'a');
  client.sendRequest(write(2n, 0));
  await breakpoints.suspended('a');
  expect(breakpoints.remove('a')).toBe(true);
  expect(breakpoints.remove('a')).toBe(false);
  expect(cookieOf(await client.reply())).toBe(2n);
  await client.request({ type: CMD.FLUSH });
});

it('stop a request before it fails, by rules of the moment of the event', async () => {
  const { breakpoints, client } = await debugged({
    'inject-error': [{ event: 'write_aio', errno: 28, once: true }],
  });
  breakpoints.add('write_aio', 'a');
  client.sendRequest(write(2n, 0));
  await breakpoints.suspended('a');
  breakpoints.resume('a');
  expect(await client.reply()).toMatchObject({ kind: 'simple', cookie: 2n, error: 28 });
});

it('do not keep the daemon from ending', async () => {
  const { daemon, breakpoints, client } = await debugged();
  breakpoints.add('cluster_alloc', 'a');
  client.sendRequest(write(1n, SIZE / 2));
  await breakpoints.suspended('a');
  await daemon.close();
});

it('are those of blkdebug nodes only', async () => {
  const { daemon } = await debugged();
  await expect(daemon.breakpoints('disk')).rejects.toThrow("Node 'disk' is not a blkdebug node");
  await expect(daemon.breakpoints('nope')).rejects.toThrow(
    "Cannot find device='' nor node-name='nope'",
  );
});
