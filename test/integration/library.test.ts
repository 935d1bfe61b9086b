// The package as a library: the daemon in this process, two of them side by side, and a QMP client that talks to them.

import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDaemon, type InProcessDaemon, QmpClient, QmpError } from '../../src/index.ts';
import { tempDir } from '../helpers/temp-dir.ts';

function daemonOf(): InProcessDaemon {
  const daemon = createDaemon();
  onTestFinished(() => daemon.close());
  return daemon;
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
});
