// An export over NBD: what a client can choose by name.

import type { BlockBackend } from '../../block/block-backend.ts';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../block/block-driver.ts';
import { chainOf } from '../../block/block-status.ts';
import { type DirtyBitmap, findDirtyBitmap } from '../../block/dirty-bitmap.ts';
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_MAX_BUFFER_SIZE,
  NBD_MAX_STRING_SIZE,
} from '../../net/nbd/protocol.ts';
import { wireText } from '../../net/nbd/wire-text.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockDirtyBitmapOrStr, XBlockExportRemoveMode } from '../../qapi/generated/types.ts';
import type { BlockExport } from '../block-export.ts';
import type { Ending } from '../closing-order.ts';
import type { ExportContext, ExportDriver, RunningExport } from '../export-driver.ts';
import { DataRanges } from './data-ranges.ts';
import { contextsOf, type MetaContext } from './meta-context.ts';

/** Sizes are told in whole sectors. */
const SECTOR = 512;

/** Preferred block size, unless the smallest that the client is told is larger. */
const PREFERRED_BLOCK = 4096;

/** What an export needs of a client that uses it. */
export interface ExportClient {
  /** Disconnects; requests under way end first. */
  close(): void;
  /** Answers further requests with ESHUTDOWN. */
  refuseRequests(): void;
  setDrained(drained: boolean): void;
  /** When it last sent something: the greater, the later, among all clients. */
  readonly heard: number;
}

/** Where exports are listed for clients: the server. */
export interface ExportRegistry {
  readonly maxConnections: number;
  find(wireName: string): NbdExport | undefined;
  addExport(added: NbdExport): void;
  /** New clients do not find it any more. */
  hideExport(hidden: NbdExport): void;
  removeExport(removed: NbdExport): void;
  /** See Session.forgetData. */
  forgetData(): void;
}

export interface NbdExportParts {
  readonly common: BlockExport;
  readonly registry: ExportRegistry;
  readonly name: string;
  readonly description: string | undefined;
  readonly allocationDepth: boolean;
  /** Already marked as busy, for as long as it exists. */
  readonly bitmaps: readonly DirtyBitmap[];
}

export class NbdExport implements RunningExport {
  readonly common: BlockExport;
  readonly name: string;
  /** Byte for byte as on the wire, one character for each. */
  readonly wireName: string;
  readonly wireDescription: string | undefined;
  /** Bytes, whole sectors. Does not change: while it is exported a node cannot be resized. */
  readonly size: number;
  /** Transmission flags, without those that depend on the client. */
  readonly flags: number;
  readonly contexts: readonly MetaContext[];
  readonly dataRanges = new DataRanges();
  readonly #registry: ExportRegistry;
  readonly #bitmaps: readonly DirtyBitmap[];
  readonly #clients = new Set<ExportClient>();

  constructor(parts: NbdExportParts) {
    this.common = parts.common;
    this.name = parts.name;
    this.wireName = wireText(parts.name);
    this.wireDescription =
      parts.description === undefined ? undefined : wireText(parts.description);
    this.size = Math.floor(this.backend.length / SECTOR) * SECTOR;
    this.flags = flagsOf(parts.common.writable, parts.registry.maxConnections);
    this.contexts = contextsOf(parts);
    this.#bitmaps = parts.bitmaps;
    this.#registry = parts.registry;
    this.backend.onDrain = (drained) => {
      for (const client of this.#clients) client.setDrained(drained);
    };
    this.#registry.addExport(this);
  }

  get backend(): BlockBackend {
    return this.common.backend;
  }

  get readOnly(): boolean {
    return !this.common.writable;
  }

  /** NBD_INFO_BLOCK_SIZE in bytes, for a client that obeys it. */
  blockSizes(): { readonly minimum: number; readonly preferred: number; readonly maximum: number } {
    const { requestAlignment, maxTransfer } = this.backend.limits;
    const transfer = maxTransfer === 0 ? NBD_MAX_BUFFER_SIZE : maxTransfer;
    return {
      minimum: requestAlignment,
      preferred: PREFERRED_BLOCK,
      maximum: Math.min(transfer - (transfer % requestAlignment), NBD_MAX_BUFFER_SIZE),
    };
  }

  addClient(client: ExportClient): void {
    this.common.ref();
    this.#clients.add(client);
  }

  removeClient(client: ExportClient): void {
    this.#clients.delete(client);
    this.common.unref();
  }

  /** Zeroes or holes have come: exports may share a disk, so it concerns all of them. */
  forgetData(): void {
    this.#registry.forgetData();
  }

  retire(mode: XBlockExportRemoveMode): void {
    this.#registry.hideExport(this);
    if (mode === 'hide') return;
    for (const client of this.#clients) client.refuseRequests();
  }

  requestShutdown(): void {
    this.#registry.hideExport(this);
    for (const client of this.#clients) client.close();
  }

  ending(): Ending {
    const count = this.#clients.size;
    if (count === 0) return { kind: 'at-once' };
    let heard = 0;
    for (const client of this.#clients) heard = Math.max(heard, client.heard);
    return { kind: 'clients', count, heard };
  }

  delete(): void {
    this.#registry.removeExport(this);
    this.backend.onDrain = () => {};
    for (const bitmap of this.#bitmaps) bitmap.busy = false;
  }
}

export const nbd: ExportDriver<'nbd'> = {
  supportsInactive: true,

  create(common, options, context) {
    const { nbdServer } = context;
    if (nbdServer === undefined) throw new QmpError('NBD server not running');
    const name = options.name ?? options['node-name'];
    const { description } = options;
    if (Buffer.byteLength(name) > NBD_MAX_STRING_SIZE) {
      throw new QmpError(`export name '${name}' too long`);
    }
    if (description !== undefined && Buffer.byteLength(description) > NBD_MAX_STRING_SIZE) {
      throw new QmpError(`description '${description}' too long`);
    }
    if (nbdServer.find(wireText(name)) !== undefined) {
      throw new QmpError(`NBD server already has export named '${name}'`);
    }
    // A client has been told the size; whatever else happens to the node is no concern of the export.
    const perm = PERM_CONSISTENT_READ | (common.writable ? PERM_WRITE : 0);
    common.backend.setPermissions(perm, PERM_ALL & ~PERM_RESIZE);
    const bitmaps = (options.bitmaps ?? []).map((given) => bitmapFor(common, given, context));
    for (const bitmap of bitmaps) bitmap.busy = true;
    return new NbdExport({
      common,
      registry: nbdServer,
      name,
      description,
      allocationDepth: options['allocation-depth'] ?? false,
      bitmaps,
    });
  },
};

/** The bitmap that the user means. Throws QmpError when there is none, or when it cannot be exported. */
function bitmapFor(
  common: BlockExport,
  given: BlockDirtyBitmapOrStr,
  context: ExportContext,
): DirtyBitmap {
  const bitmap =
    typeof given === 'string' ? bitmapInChain(common, given) : context.findDirtyBitmap(given);
  bitmap.checkUsable();
  return bitmap;
}

/** Of the exported node, or of the first one below it in its chain that has a bitmap of that name. */
function bitmapInChain({ backend, writable }: BlockExport, name: string): DirtyBitmap {
  for (const node of chainOf(backend.node)) {
    const bitmap = findDirtyBitmap(node, name);
    if (bitmap === undefined) continue;
    if (!writable && !node.readOnly && bitmap.enabled) {
      throw new QmpError(`Enabled bitmap '${name}' incompatible with readonly export`);
    }
    return bitmap;
  }
  throw new QmpError(`Bitmap '${name}' is not found`);
}

function flagsOf(writable: boolean, maxConnections: number): number {
  return (
    NBD_FLAG_HAS_FLAGS |
    NBD_FLAG_SEND_FLUSH |
    NBD_FLAG_SEND_FUA |
    NBD_FLAG_SEND_CACHE |
    (maxConnections === 1 ? 0 : NBD_FLAG_CAN_MULTI_CONN) |
    (writable
      ? NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO
      : NBD_FLAG_READ_ONLY)
  );
}
