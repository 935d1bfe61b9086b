// An export manager in this process with an NBD server on a unix socket, for tests of the wire.

import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '../../src/base/log.ts';
import { createTrace } from '../../src/base/trace.ts';
import { BlockGraph } from '../../src/block/block-graph.ts';
import { ExportManager } from '../../src/export/export-manager.ts';
import type { ObjectLookup } from '../../src/object/user-object.ts';
import type { EventSink } from '../../src/qapi/event-sink.ts';
import type { NbdServerOptions } from '../../src/qapi/generated/types.ts';
import { allocate } from '../../src/sys/memory.ts';
import { Poller } from '../../src/sys/poller.ts';
import { idOf } from '../helpers/events.ts';
import { NbdWireClient, type ReadyOptions } from './nbd-wire-client.ts';

/** Bytes of the disk: 1 MiB, data from 64 KiB to 128 KiB, the rest is a hole. */
export const DISK_SIZE = 1024 * 1024;
export const DATA_START = 64 * 1024;
export const DATA_END = 128 * 1024;

export interface NbdTestServer {
  readonly path: string;
  readonly graph: BlockGraph;
  readonly exports: ExportManager;
  /** What would have been printed. */
  readonly log: string[];
  /** `EVENT id`. */
  readonly events: string[];
  /** Resolves when a line with this text is in the log. */
  logged(text: string): Promise<void>;
  /** Resolves when an event is there. */
  emitted(event: string): Promise<void>;
  /** A client that has been greeted and has sent its flags. */
  greeted(): Promise<NbdWireClient>;
  /** A client that may send requests. */
  ready(options?: ReadyOptions): Promise<NbdWireClient>;
  /** Makes a client the server's: close() closes it, as it does those from `greeted` and `ready`. */
  keep(client: NbdWireClient): NbdWireClient;
  close(): Promise<void>;
}

export type ServerOptions = Omit<NbdServerOptions, 'addr'> & {
  /** Where `tls-creds` are looked for. */
  readonly objects?: ObjectLookup;
};

/**
 * A server with two exports of one sparse disk: `` (writable, described as `hello`) and `ro` (read-only), and node `disk`.
 */
export async function startNbdTestServer({
  objects = { find: () => undefined },
  ...options
}: ServerOptions = {}): Promise<NbdTestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-'));
  const path = join(folder, 'nbd.sock');
  const file = join(folder, 'disk.img');
  makeDisk(file);
  const log = new Lines();
  const events = new Lines();
  const logger: Logger = {
    error: (line) => log.add(line),
    warn: (line) => log.add(line),
    debug() {},
  };
  const sink: EventSink = { emit: (name, payload) => events.add(`${name} ${idOf(payload)}`) };
  const poller = new Poller();
  const graph = new BlockGraph({
    log: logger,
    trace: createTrace(),
    poller,
    objects,
    events: sink,
    allocate,
  });
  const exports = new ExportManager({
    graph,
    events: sink,
    log: logger,
    trace: createTrace(),
    poller,
    objects,
  });
  await graph.add({ driver: 'file', filename: file, 'node-name': 'disk' });
  await exports.startNbdServer({ addr: { type: 'unix', path }, ...options });
  await exports.add({
    type: 'nbd',
    id: 'rw',
    'node-name': 'disk',
    name: '',
    description: 'hello',
    writable: true,
  });
  await exports.add({ type: 'nbd', id: 'ro', 'node-name': 'disk', name: 'ro' });
  const clients: NbdWireClient[] = [];
  const keep = (client: NbdWireClient): NbdWireClient => {
    clients.push(client);
    return client;
  };
  return {
    path,
    graph,
    exports,
    log: log.list,
    events: events.list,
    logged: (text) => log.find(text),
    emitted: (event) => events.find(event),
    greeted: async () => keep(await NbdWireClient.greeted(path)),
    ready: async (options) => keep(await NbdWireClient.ready(path, options)),
    keep,
    async close() {
      for (const client of clients.splice(0)) client.close();
      await exports.close();
      await graph.close();
      poller.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Adds an export `slow` of a disk whose reads take until the answer is called. */
export async function addSlowExport({ graph, exports }: NbdTestServer): Promise<() => void> {
  let letGo = (): void => {};
  const read = new Promise<void>((resolve) => (letGo = resolve));
  await graph.addDisk('slow', { size: DISK_SIZE, read: () => read }, { readOnly: true });
  await exports.add({ type: 'nbd', id: 'slow', 'node-name': 'slow' });
  return letGo;
}

/** The byte that the disk has at an offset inside its data. */
export function diskByte(offset: number): number {
  return 1 + (offset % 251);
}

function makeDisk(file: string): void {
  const fd = openSync(file, 'w');
  ftruncateSync(fd, DISK_SIZE);
  const data = Buffer.alloc(DATA_END - DATA_START);
  for (let at = 0; at < data.length; at++) data[at] = diskByte(DATA_START + at);
  writeSync(fd, data, 0, data.length, DATA_START);
  closeSync(fd);
}

/** Lines that can be waited for. */
class Lines {
  readonly list: string[] = [];
  #wake: (() => void)[] = [];

  add(line: string): void {
    this.list.push(line);
    for (const wake of this.#wake.splice(0)) wake();
  }

  async find(text: string): Promise<void> {
    while (!this.list.some((line) => line.includes(text))) {
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
      });
    }
  }
}
