// The package as a library: the daemon in this process, two of them side by side, and a QMP client that talks to them.

import { readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDaemon, type InProcessDaemon, QmpClient, QmpError } from '../../src/index.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { uncaughtErrors } from '../helpers/uncaught-errors.ts';

function daemonOf(): InProcessDaemon {
  const daemon = createDaemon();
  onTestFinished(() => daemon.close());
  return daemon;
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return [];
    }
  });
}

async function withExport(daemon: InProcessDaemon, directory: string): Promise<void> {
  writeFileSync(path.join(directory, 'disk'), '');
  truncateSync(path.join(directory, 'disk'), 65536);
  await daemon.execute('blockdev-add', {
    driver: 'file',
    'node-name': 'disk',
    filename: path.join(directory, 'disk'),
  });
  await daemon.execute('nbd-server-start', {
    addr: { type: 'unix', data: { path: path.join(directory, 'nbd') } },
  });
  await daemon.execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'disk' });
}

async function addMonitor(daemon: InProcessDaemon, socket: string): Promise<QmpClient> {
  await daemon.execute('chardev-add', {
    id: 'qmp',
    backend: {
      type: 'socket',
      data: { addr: { type: 'unix', data: { path: socket } }, server: true, wait: false },
    },
  });
  daemon.addMonitor({ chardev: 'qmp' });
  const client = await QmpClient.connect({ path: socket });
  onTestFinished(() => client.close());
  return client;
}

describe('createDaemon', () => {
  it('carries out commands and reports events', async () => {
    const daemon = daemonOf();
    const deleted: string[] = [];
    const stop = daemon.on('BLOCK_EXPORT_DELETED', ({ id }) => deleted.push(id));
    await withExport(daemon, tempDir());
    expect(await daemon.execute('query-block-exports')).toMatchObject([{ id: 'e', type: 'nbd' }]);
    await daemon.execute('block-export-del', { id: 'e' });
    expect(deleted).toEqual(['e']);
    stop();
    await daemon.execute('nbd-server-stop');
  });

  it('throws QmpError for what the schema or the daemon refuses', async () => {
    const daemon = daemonOf();
    await expect(daemon.execute('blockdev-del', { 'node-name': 'x' })).rejects.toThrow(QmpError);
    await expect(daemon.execute('nbd-server-stop')).rejects.toThrow('NBD server not running');
  });

  it.each([
    [1048576n, undefined],
    [-1n, "Parameter 'size' expects a non-negative number below 2^64"],
    [
      2n ** 60n,
      "Parameter 'size' does not accept the value 1152921504606846976, it must be below 2^53",
    ],
    [2 ** 53, "Parameter 'size' does not accept the value 9007199254740992, it must be below 2^53"],
    [2n ** 64n, "Invalid parameter type for 'size', expected: integer"],
    [1e300, "Invalid parameter type for 'size', expected: integer"],
    [1.5, "Invalid parameter type for 'size', expected: integer"],
    [Number.NaN, "Invalid parameter type for 'size', expected: integer"],
  ])('takes the integer %s as a monitor does', async (size, text) => {
    const daemon = daemonOf();
    const added = daemon.execute('blockdev-add', {
      driver: 'null-co',
      'node-name': 'n',
      size: size as number,
    });
    expect(await added.then(() => undefined, messageOf)).toBe(text);
  });

  it('refuses what is no object, and what contains itself', async () => {
    const daemon = daemonOf();
    const none = daemon.execute('blockdev-add', [] as never);
    expect(await none.catch(messageOf)).toBe("QMP input member 'arguments' must be an object");
    const endless = { driver: 'raw', 'node-name': 'n', file: {} };
    endless.file = endless;
    const own = daemon.execute('blockdev-add', endless as never);
    expect(await own.catch(messageOf)).toBe('JSON nesting depth limit exceeded');
  });

  it('offers QMP to others, who may end it', async () => {
    const directory = tempDir();
    const daemon = daemonOf();
    const client = await addMonitor(daemon, path.join(directory, 'qmp'));
    expect(client.greeting.version.package).toMatch(/^qmp-storage-daemon /);
    await client.execute('quit');
    await daemon.ended;
  });

  it('lives beside another one; they share nothing', async () => {
    const [one, two] = [daemonOf(), daemonOf()];
    const [first, second] = [tempDir(), tempDir()];
    const events: string[] = [];
    two.on('BLOCK_EXPORT_DELETED', () => events.push('two'));
    await Promise.all([withExport(one, first), withExport(two, second)]);
    const client = await addMonitor(two, path.join(second, 'qmp'));
    await one.execute('object-add', { 'qom-type': 'secret', id: 's', data: 'x' });
    await one.close();
    expect(events).toEqual([]);
    expect(await client.execute('query-block-exports')).toHaveLength(1);
    await expect(client.execute('qom-list', { path: '/objects' })).rejects.toThrow('not found');
  });

  it('can be closed twice, and refuses commands afterwards', async () => {
    const daemon = createDaemon();
    await daemon.execute('query-version');
    await Promise.all([daemon.close(), daemon.close()]);
    await expect(daemon.execute('query-version')).rejects.toThrow('The daemon has ended');
  });

  it('begins nothing once it is being closed, and leaves nothing open of what was under way', async () => {
    const directory = tempDir();
    const disk = path.join(directory, 'disk');
    writeFileSync(disk, 'x'.repeat(512));
    const add = { driver: 'file', 'node-name': 'n', filename: disk } as const;
    const [unused, used, busy] = [createDaemon(), createDaemon(), createDaemon()];
    await used.execute('query-version');
    await busy.execute('blockdev-add', { ...add, 'node-name': 'other' });
    const nbd = { type: 'inet', data: { host: 'localhost', port: '0' } } as const;
    const underWay = Promise.allSettled([
      busy.execute('nbd-server-start', { addr: nbd }),
      busy.execute('blockdev-add', add),
      busy.execute('object-add', { 'qom-type': 'tls-creds-anon', id: 't' }),
    ]);
    await new Promise((resolve) => setImmediate(resolve));
    const closed = [unused, used, busy].map((daemon) => daemon.close());
    for (const daemon of [unused, used, busy]) {
      await expect(daemon.execute('blockdev-add', add)).rejects.toThrow('The daemon has ended');
    }
    await Promise.all(closed);
    await underWay;
    expect(openFiles()).not.toContain(disk);
  });

  it('makes one of two objects of the same name that are asked for at once', async () => {
    const daemon = daemonOf();
    const options = { 'qom-type': 'tls-creds-anon', id: 't', endpoint: 'server' } as const;
    const made = [daemon.execute('object-add', options), daemon.execute('object-add', options)];
    const outcomes = await Promise.allSettled(made);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    await daemon.execute('object-del', { id: 't' });
    await daemon.execute('object-add', options);
  });

  it("goes on when a listener throws; the error is the program's", async () => {
    const daemon = daemonOf();
    const uncaught = uncaughtErrors();
    const heard: string[] = [];
    const fault = new Error('of the listener');
    daemon.on('JOB_STATUS_CHANGE', () => {
      throw fault;
    });
    daemon.on('JOB_STATUS_CHANGE', ({ status }) => heard.push(status));
    const filename = path.join(tempDir(), 'new');
    await daemon.execute('blockdev-create', {
      'job-id': 'j',
      options: { driver: 'file', filename, size: 512 },
    });
    await daemon.close();
    expect(heard).toContain('concluded');
    expect(uncaught).toEqual(heard.map(() => fault));
  });
});

function messageOf(error: unknown): string {
  return error instanceof QmpError ? error.message : String(error);
}
