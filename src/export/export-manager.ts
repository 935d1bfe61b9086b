// All exports of one engine, and its NBD server: what the export commands do, in the reference's words. Sends
// BLOCK_EXPORT_DELETED.

import type { Logger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
  type Permissions,
} from '../block/block-driver.ts';
import type { BlockGraph } from '../block/block-graph.ts';
import { lookUpDirtyBitmap } from '../block/dirty-bitmap-commands.ts';
import { reaches } from '../block/edges.ts';
import { flattenAddress, type SocketAddress } from '../net/socket-address.ts';
import { tlsCredentials } from '../object/tls-creds.ts';
import type { ObjectLookup } from '../object/user-object.ts';
import { QmpError } from '../qapi/errors.ts';
import type { EventSink } from '../qapi/event-sink.ts';
import type {
  BlockDirtyBitmap,
  BlockExportInfo,
  BlockExportOptions,
  BlockExportRemoveMode,
  BlockExportType,
  NbdServerAddOptions,
  NbdServerOptions,
  NbdServerStartArguments,
  XBlockExportRemoveMode,
  XNbdClientInfo,
} from '../qapi/generated/types.ts';
import { EventSignaller } from '../sys/event-signal.ts';
import type { Poller } from '../sys/poller.ts';
import { BlockExport } from './block-export.ts';
import { closingOrder } from './closing-order.ts';
import type { ExportContext, ExportDriver } from './export-driver.ts';
import { TransferBuffers } from './fuse/buffers.ts';
import { Mountpoints } from './fuse/mountpoint.ts';
import { exportDrivers } from './index.ts';
import { ClientInventory, describeClient } from './nbd/client-inventory.ts';
import { DEFAULT_HANDSHAKE_MAX_SECONDS, DEFAULT_MAX_CONNECTIONS, NbdServer } from './nbd/server.ts';
import { loadTls, type NbdTls } from './nbd/tls.ts';

export interface ExportManagerOptions {
  readonly graph: BlockGraph;
  readonly events: EventSink;
  readonly log: Logger;
  readonly trace: Trace;
  readonly poller: Poller;
  readonly objects: ObjectLookup;
}

export class ExportManager {
  readonly #options: ExportManagerOptions;
  readonly #inventory: ClientInventory;
  readonly #signals = new EventSignaller();
  readonly #fuse: ExportContext['fuse'];
  /** Newest first. */
  readonly #exports: BlockExport[] = [];
  /** Those that are being started. */
  readonly #adding = new Map<string, Promise<BlockExport>>();
  /** Those that end together, each announced when it is its turn. */
  readonly #closing = new Set<BlockExport>();
  #nbdServer: NbdServer | undefined;
  /** From the check that none is running until there is one, or not. */
  #starting = false;
  /** Nothing may begin any more. */
  #ended = false;

  constructor(options: ExportManagerOptions) {
    this.#options = options;
    const mountpoints = new Mountpoints(options.graph.servedFiles);
    this.#fuse = { mountpoints, buffers: new TransferBuffers() };
    this.#inventory = new ClientInventory(options.events);
  }

  get nbdServer(): NbdServer | undefined {
    return this.#nbdServer;
  }

  /** nbd-server-start. */
  startNbdServerByQmp(args: NbdServerStartArguments): Promise<void> {
    return this.#startNbdServer(args, () => flattenAddress(args.addr), { fdsByNumber: false });
  }

  /** --nbd-server. */
  startNbdServer(options: NbdServerOptions): Promise<void> {
    return this.#startNbdServer(options, () => options.addr, { fdsByNumber: true });
  }

  async #startNbdServer(
    options: Omit<NbdServerOptions, 'addr'>,
    address: () => SocketAddress,
    { fdsByNumber }: { readonly fdsByNumber: boolean },
  ): Promise<void> {
    if (this.#nbdServer !== undefined || this.#starting) {
      throw new QmpError('NBD server already running');
    }
    this.#refuseAtTheEnd();
    this.#starting = true;
    try {
      const secure = await this.#tlsOf(options);
      const server = await NbdServer.start(
        {
          address: address(),
          maxConnections: options['max-connections'] ?? DEFAULT_MAX_CONNECTIONS,
          handshakeMaxSeconds: options['handshake-max-seconds'] ?? DEFAULT_HANDSHAKE_MAX_SECONDS,
          fdsByNumber,
          ...(secure === undefined ? {} : { secure }),
        },
        { ...this.#options, inventory: this.#inventory },
      );
      if (this.#ended) await server.close({ unlink: true });
      this.#refuseAtTheEnd();
      this.#nbdServer = server;
    } finally {
      this.#starting = false;
    }
  }

  /** nbd-server-stop: ends all NBD exports and drops every client. */
  async stopNbdServer(): Promise<void> {
    const server = this.#nbdServer;
    if (server === undefined) throw new QmpError('NBD server not running');
    server.stopListening({ unlink: true });
    await this.#closeExports((type) => type === 'nbd');
    await server.close({ unlink: true });
    this.#nbdServer = undefined;
  }

  /** block-export-add. */
  addByQmp(options: BlockExportOptions): Promise<void> {
    return this.#add(options, { fdsByNumber: false });
  }

  /** --export. */
  add(options: BlockExportOptions): Promise<void> {
    return this.#add(options, { fdsByNumber: true });
  }

  async #add(
    options: BlockExportOptions,
    { fdsByNumber }: { readonly fdsByNumber: boolean },
  ): Promise<void> {
    const { id, type } = options;
    this.#refuseAtTheEnd();
    if (!isWellFormedId(id)) throw new QmpError('Invalid block export id');
    if (this.#find(id) !== undefined || this.#adding.has(id)) {
      throw new QmpError(`Block export id '${id}' is already in use`);
    }
    const node = this.#options.graph.find(undefined, options['node-name']);
    const writable = options.writable ?? false;
    if (node.readOnly && writable) {
      throw new QmpError('Cannot export read-only node as writable');
    }
    const adding = this.#create(options, { id, type, writable, fdsByNumber });
    this.#adding.set(id, adding);
    try {
      this.#exports.unshift(await adding);
    } finally {
      this.#adding.delete(id);
    }
  }

  /** nbd-server-add: `device` is a name of either kind, and a read-only node makes a read-only export. */
  async addLegacy(args: NbdServerAddOptions): Promise<void> {
    const node = this.#options.graph.find(args.device, args.device);
    const name = args.name ?? args.device;
    await this.add({
      type: 'nbd',
      id: name,
      'node-name': node.nodeName,
      writable: (args.writable ?? false) && !node.readOnly,
      name,
      ...(args.description === undefined ? {} : { description: args.description }),
      ...(args.bitmap === undefined ? {} : { bitmaps: [args.bitmap] }),
    });
  }

  /** block-export-del: an idle export has ended when this resolves, one with clients ends later. */
  async remove(id: string, mode: BlockExportRemoveMode = 'safe'): Promise<void> {
    const found = this.#find(id);
    if (found === undefined) throw new QmpError(`Export '${id}' is not found`);
    const retired = found.removal !== undefined && found.removal !== 'hard';
    if (found.shuttingDown && !(retired && mode === 'hard')) throw alreadyShuttingDown(id);
    if (mode === 'safe' && found.inUse) {
      throw new QmpError(`export '${id}' still in use`, {
        hint: "Use mode='hard' to force client disconnect",
      });
    }
    found.requestShutdown();
    if (!found.inUse) await found.deleted;
  }

  /** x-block-export-del: as remove(), but its clients stay until they go by themselves. */
  async retire(id: string, mode: XBlockExportRemoveMode): Promise<void> {
    const found = this.#find(id);
    if (found === undefined) throw new QmpError(`Export '${id}' is not found`);
    const harder = found.removal === 'hide' && mode === 'soft';
    if (found.shuttingDown && !harder) throw alreadyShuttingDown(id);
    await found.retire(mode);
    if (!found.inUse) await found.deleted;
  }

  /** x-query-nbd-clients. */
  queryNbdClients(): XNbdClientInfo[] {
    return [...(this.#nbdServer?.clients() ?? [])].map(describeClient);
  }

  /** x-nbd-client-disconnect. */
  disconnectNbdClient(id: number): void {
    const server = this.#nbdServer;
    const found = [...(server?.clients() ?? [])].find((client) => client.id === id);
    if (found === undefined) throw new QmpError(`NBD client '${id}' is not found`);
    found.close();
  }

  /** x-nbd-client-events. */
  announceNbdClients(enable: boolean): void {
    this.#inventory.announcing = enable;
  }

  /** nbd-server-remove. */
  async removeLegacy(id: string, mode?: BlockExportRemoveMode): Promise<void> {
    const found = this.#find(id);
    if (found !== undefined && found.type !== 'nbd') {
      throw new QmpError(`Block export '${id}' is not an NBD export`);
    }
    await this.remove(id, mode);
  }

  /** query-block-exports, newest first. */
  query(): BlockExportInfo[] {
    return this.#exports.map((known) => ({
      id: known.id,
      type: known.type,
      'node-name': known.backend.node.nodeName,
      'shutting-down': known.shuttingDown,
    }));
  }

  /** The daemon ends: all exports and clients go; as in the reference, the file of the server's socket stays. */
  async close(): Promise<void> {
    this.#ended = true;
    const server = this.#nbdServer;
    server?.stopListening({ unlink: false });
    await this.#closeExports(() => true);
    await server?.close({ unlink: false });
    this.#nbdServer = undefined;
    await this.#signals.close();
  }

  #refuseAtTheEnd(): void {
    if (this.#ended) throw new QmpError('The daemon has ended');
  }

  #find(id: string): BlockExport | undefined {
    return this.#exports.find((known) => known.id === id);
  }

  async #create(
    options: BlockExportOptions,
    parts: {
      readonly id: string;
      readonly type: BlockExportType;
      readonly writable: boolean;
      readonly fdsByNumber: boolean;
    },
  ): Promise<BlockExport> {
    // The row of this type: what the compiler cannot see from a union.
    const driver = exportDrivers[options.type] as ExportDriver;
    const allowsInactive = options['allow-inactive'] ?? false;
    if (allowsInactive && driver.supportsInactive !== true) {
      throw new QmpError('Export type does not support inactive exports');
    }
    const { graph } = this.#options;
    let node = graph.find(undefined, options['node-name']);
    if (!allowsInactive && !node.active) {
      await graph.setActive(node.nodeName, true);
      node = graph.find(undefined, options['node-name']);
    }
    const perm: Permissions = PERM_CONSISTENT_READ | (parts.writable ? PERM_WRITE : 0);
    const backend = graph.backend(node, { perm, shared: PERM_ALL });
    backend.writethrough = options.writethrough ?? false;
    const created = new BlockExport({
      ...parts,
      backend,
      onDeleted: (deleted) => this.#deleted(deleted),
    });
    try {
      const { log, trace, poller } = this.#options;
      const context = {
        log,
        trace,
        poller,
        signals: this.#signals,
        fuse: this.#fuse,
        nbdServer: this.#nbdServer,
        fdsByNumber: parts.fdsByNumber,
        findDirtyBitmap: (which: BlockDirtyBitmap) => lookUpDirtyBitmap(this.#options.graph, which),
      };
      created.start(await driver.create(created, options, context));
    } catch (error) {
      await backend.release();
      throw error;
    }
    return created;
  }

  #deleted(deleted: BlockExport): void {
    const index = this.#exports.indexOf(deleted);
    if (index >= 0) this.#exports.splice(index, 1);
    if (!this.#closing.has(deleted)) this.#announceEnd(deleted);
  }

  #announceEnd({ id }: BlockExport): void {
    this.#options.events.emit('BLOCK_EXPORT_DELETED', { id });
  }

  async #closeExports(matches: (type: BlockExportType) => boolean): Promise<void> {
    while (this.#adding.size > 0) await Promise.allSettled(this.#adding.values());
    // They are announced in the reference's order, whichever ends first.
    const closing = closingOrder(
      this.#exports
        .filter(({ type }) => matches(type))
        .map((what) => ({
          what,
          ending: what.ending(),
          sharesDiskWith: ({ backend }: BlockExport) => reaches(backend.node, what.backend.node),
        })),
    );
    for (const closed of closing) this.#closing.add(closed);
    for (const closed of closing) closed.requestShutdown();
    for (const closed of closing) {
      await closed.deleted;
      if (this.#closing.delete(closed)) this.#announceEnd(closed);
    }
  }

  /** What makes TLS of `tls-creds` and `tls-authz`; loaded now, so that no client can be there before it. */
  async #tlsOf(
    options: Pick<NbdServerOptions, 'tls-creds' | 'tls-authz'>,
  ): Promise<(() => NbdTls) | undefined> {
    const { objects } = this.#options;
    const { 'tls-creds': id, 'tls-authz': authz } = options;
    if (id === undefined) return undefined;
    const factory = await loadTls();
    return () => factory(tlsCredentials(id, 'server', objects), { authz, objects });
  }
}

function alreadyShuttingDown(id: string): QmpError {
  return new QmpError(`Export '${id}' is already shutting down`);
}

/** The reference's rule for ids: a letter, then letters, digits and `-._`. */
function isWellFormedId(id: string): boolean {
  return /^[A-Za-z][A-Za-z0-9\-._]*$/.test(id);
}
