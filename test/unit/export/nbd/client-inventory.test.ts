import { describe, expect, it } from 'vitest';
import {
  ClientInventory,
  describeClient,
  type InventoryClient,
} from '../../../../src/export/nbd/client-inventory.ts';
import type { NbdExport } from '../../../../src/export/nbd/nbd-export.ts';
import { Traffic } from '../../../../src/export/nbd/traffic.ts';
import type { EventSink } from '../../../../src/qapi/event-sink.ts';

function clientWith(changes: Partial<InventoryClient> = {}): InventoryClient {
  const traffic = new Traffic();
  traffic.succeeded(0, 4096);
  traffic.succeeded(1, 512);
  traffic.succeeded(3, 0);
  traffic.failed();
  return {
    id: 5,
    peer: '127.0.0.1:4000',
    identity: undefined,
    state: 'transmission',
    connectedAt: 1_700_000_000_999,
    export: { name: 'disk', common: { id: 'e' } } as NbdExport,
    traffic,
    requestsInFlight: 1,
    ...changes,
  };
}

function collected(): { events: unknown[]; inventory: ClientInventory } {
  const events: unknown[] = [];
  const sink: EventSink = { emit: (name, payload) => events.push([name, payload]) };
  return { events, inventory: new ClientInventory(sink) };
}

describe('describeClient', () => {
  it('tells everything there is', () => {
    expect(describeClient(clientWith({ identity: 'CN=laptop' }))).toEqual({
      id: 5,
      peer: '127.0.0.1:4000',
      'tls-identity': 'CN=laptop',
      state: 'transmission',
      'connected-since': 1_700_000_000,
      'export-id': 'e',
      'export-name': 'disk',
      'bytes-read': 4096,
      'bytes-written': 512,
      requests: 4,
      'requests-in-flight': 1,
    });
  });

  it('leaves out what is not there, and calls a closed client closing', () => {
    const info = describeClient(clientWith({ export: undefined, state: 'closed' }));
    expect(info.state).toBe('closing');
    expect(Object.keys(info)).not.toContain('export-id');
    expect(Object.keys(info)).not.toContain('tls-identity');
  });
});

describe('ClientInventory', () => {
  it('says nothing before it is asked to', () => {
    const { events, inventory } = collected();
    inventory.connected(clientWith());
    inventory.disconnected(clientWith());
    expect(events).toEqual([]);
  });

  it('says who came, and who went with what it did', () => {
    const { events, inventory } = collected();
    inventory.announcing = true;
    inventory.connected(clientWith({ identity: 'CN=laptop' }));
    inventory.disconnected(clientWith());
    const peer = { id: 5, peer: '127.0.0.1:4000', 'export-id': 'e', 'export-name': 'disk' };
    expect(events).toEqual([
      ['X_NBD_CLIENT_CONNECTED', { ...peer, 'tls-identity': 'CN=laptop' }],
      [
        'X_NBD_CLIENT_DISCONNECTED',
        { ...peer, 'bytes-read': 4096, 'bytes-written': 512, requests: 4 },
      ],
    ]);
  });

  it('says nothing of those that chose no export', () => {
    const { events, inventory } = collected();
    inventory.announcing = true;
    inventory.disconnected(clientWith({ export: undefined }));
    expect(events).toEqual([]);
  });
});
