// The own commands and events of the NBD server, over QMP from the outside.

import { describe, expect, it } from 'vitest';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { CMD, NbdWireClient } from '../protocol/nbd-wire-client.ts';

function serving(): Promise<TestDaemon> {
  const node = 'driver=null-co,node-name=n,size=1048576';
  const args = ['--blockdev', node, '--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
  return startDaemon({ args: [...args, '--export', 'type=nbd,id=e,node-name=n,name=disk'] });
}

describe('own commands of the NBD server', () => {
  it('tell who uses it, and disconnect', async () => {
    const daemon = await serving();
    const { qmp } = daemon;
    await qmp.execute('x-nbd-client-events', { enable: true });
    const connected = qmp.waitForEvent('X_NBD_CLIENT_CONNECTED');
    const client = await NbdWireClient.ready(daemon.path('nbd.sock'), { name: 'disk' });
    const used = { id: 1, 'export-id': 'e', 'export-name': 'disk' };
    expect(await connected).toMatchObject(used);
    await client.request({ type: CMD.READ, length: 4096 });
    expect(await qmp.execute('x-query-nbd-clients')).toMatchObject([
      { ...used, state: 'transmission', 'bytes-read': 4096, requests: 1 },
    ]);
    const disconnected = qmp.waitForEvent('X_NBD_CLIENT_DISCONNECTED');
    await qmp.execute('x-nbd-client-disconnect', { id: 1 });
    expect(await disconnected).toMatchObject({ ...used, 'bytes-read': 4096, 'bytes-written': 0 });
    expect(await qmp.execute('x-query-nbd-clients')).toEqual([]);
    client.close();
  });

  it('remove an export when its last client has gone', async () => {
    const daemon = await serving();
    const { qmp } = daemon;
    const client = await NbdWireClient.ready(daemon.path('nbd.sock'), { name: 'disk' });
    await qmp.execute('x-block-export-del', { id: 'e', mode: 'hide' });
    expect(await qmp.execute('query-block-exports')).toMatchObject([{ 'shutting-down': true }]);
    const deleted = qmp.waitForEvent('BLOCK_EXPORT_DELETED');
    client.sendRequest({ type: CMD.DISC });
    expect(await deleted).toEqual({ id: 'e' });
    client.close();
  });
});
