// Who uses the NBD server: what is told of a client when the user asks, and events of their coming and going for a user that
// wants them. Outlives servers, so that numbers do not come again.

import type { EventSink } from '../../qapi/event-sink.ts';
import type { XNbdClientInfo, XNbdClientState } from '../../qapi/generated/types.ts';
import type { NbdExport } from './nbd-export.ts';
import type { Traffic } from './traffic.ts';

/** A client as the inventory sees it. */
export interface InventoryClient {
  readonly id: number;
  readonly peer: string;
  /** Who the peer has proved to be. */
  readonly identity: string | undefined;
  readonly state: XNbdClientState | 'closed';
  /** Milliseconds since 1970. */
  readonly connectedAt: number;
  readonly export: NbdExport | undefined;
  readonly traffic: Traffic;
  readonly requestsInFlight: number;
}

export class ClientInventory {
  /** Whether events are sent. */
  announcing = false;
  readonly #events: EventSink;
  #lastId = 0;
  #heard = 0;

  constructor(events: EventSink) {
    this.#events = events;
  }

  nextId(): number {
    this.#lastId++;
    return this.#lastId;
  }

  /** For a client that sends something: greater than all before. */
  nextHeard(): number {
    this.#heard++;
    return this.#heard;
  }

  /** It has chosen its export. */
  connected(client: InventoryClient): void {
    if (!this.announcing || client.export === undefined) return;
    this.#events.emit('X_NBD_CLIENT_CONNECTED', {
      ...peerOf(client),
      ...exportOf(client.export),
    });
  }

  /** Nothing of it is left. */
  disconnected(client: InventoryClient): void {
    if (!this.announcing || client.export === undefined) return;
    this.#events.emit('X_NBD_CLIENT_DISCONNECTED', {
      ...peerOf(client),
      ...exportOf(client.export),
      ...trafficOf(client),
    });
  }
}

/** What x-query-nbd-clients tells of a client. */
export function describeClient(client: InventoryClient): XNbdClientInfo {
  return {
    ...peerOf(client),
    state: client.state === 'closed' ? 'closing' : client.state,
    'connected-since': Math.floor(client.connectedAt / 1000),
    ...(client.export === undefined ? {} : exportOf(client.export)),
    ...trafficOf(client),
    'requests-in-flight': client.requestsInFlight,
  };
}

function peerOf({ id, peer, identity }: InventoryClient) {
  return { id, peer, ...(identity === undefined ? {} : { 'tls-identity': identity }) };
}

function exportOf(used: NbdExport) {
  return { 'export-id': used.common.id, 'export-name': used.name };
}

function trafficOf({ traffic }: InventoryClient) {
  return {
    'bytes-read': traffic.bytesRead,
    'bytes-written': traffic.bytesWritten,
    requests: traffic.requests,
  };
}
