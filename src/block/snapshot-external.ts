// Snapshots as overlays: a new image takes the place of a node, and the node becomes its backing file.

import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type {
  BlockdevCreateOptions,
  BlockdevOptions,
  BlockdevSnapshot,
  BlockdevSnapshotSync,
} from '../qapi/generated/types.ts';
import { type BlockDriver, PERM_CONSISTENT_READ } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { drainBegin } from './drain.ts';
import { filenameOf } from './filename.ts';
import type { GraphAccess } from './graph-access.ts';
import { flush } from './io-flush.ts';
import { isJsonFilename, jsonFilenameOptions } from './json-filename.ts';
import { checkNotBlocked } from './op-blockers.ts';
import { fileOptions } from './open-filename.ts';
import { cumulativePermissions } from './permissions.ts';
import { insertOverlay } from './replace-child.ts';
import type { TransactionAction } from './transaction.ts';

/** Where the overlay comes from. */
interface Source {
  readonly device: string | undefined;
  readonly nodeName: string | undefined;
  /** Answers the overlay for a node. Throws QmpError. */
  readonly overlayFor: (node: BlockNode) => Promise<BlockNode>;
}

/** blockdev-snapshot: over a node that is there already. */
export function snapshotAction(
  graph: GraphAccess,
  { node, overlay }: BlockdevSnapshot,
): TransactionAction {
  return new ExternalSnapshotAction(graph, {
    device: node,
    nodeName: node,
    overlayFor: () => Promise.resolve(graph.find(overlay, overlay)),
  });
}

/** blockdev-snapshot-sync: in an image that is opened, and may be made, for it. */
export function snapshotSyncAction(
  graph: GraphAccess,
  args: BlockdevSnapshotSync,
): TransactionAction {
  return new ExternalSnapshotAction(graph, {
    device: args.device,
    nodeName: args['node-name'],
    overlayFor: (node) => openOverlay(graph, node, args),
  });
}

class ExternalSnapshotAction implements TransactionAction {
  readonly #graph: GraphAccess;
  readonly #source: Source;
  #base: BlockNode | undefined = undefined;
  #overlay: BlockNode | undefined = undefined;
  #drained: (() => void) | undefined = undefined;
  #takeBack: (() => void) | undefined = undefined;
  #madeInactive = false;

  constructor(graph: GraphAccess, source: Source) {
    this.#graph = graph;
    this.#source = source;
  }

  async prepare(): Promise<void> {
    const { device, nodeName, overlayFor } = this.#source;
    const base = this.#graph.find(device, nodeName);
    this.#drained = await drainBegin(base);
    checkNotBlocked(base);
    await flushed(base);
    const overlay = await overlayFor(base);
    this.#base = base;
    this.#overlay = overlay;
    checkMayBeOverlay(overlay);
    // Whoever makes a snapshot of what is inactive wants it to stay so.
    if (!base.active && overlay.active) {
      await this.#graph.setActive(overlay, false);
      this.#madeInactive = true;
    }
    this.#takeBack = insertOverlay(overlay, base);
  }

  /** Nobody writes to the backing file any more. Where it cannot be reopened it stays as it is. */
  async commit(): Promise<void> {
    if (this.#base === undefined) return;
    try {
      await this.#graph.setReadOnly(this.#base, true);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
    }
  }

  async abort(): Promise<void> {
    this.#takeBack?.();
    if (!this.#madeInactive || this.#overlay === undefined) return;
    try {
      await this.#graph.setActive(this.#overlay, true);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      const { nodeName } = this.#overlay;
      this.#graph.log.error(`Failed to make node '${nodeName}' active again: ${error.desc}`);
    }
  }

  async clean(): Promise<void> {
    this.#drained?.();
    // One that was opened here goes when nobody uses it.
    if (this.#overlay !== undefined) await this.#graph.closeUnused(this.#overlay);
  }
}

async function flushed(node: BlockNode): Promise<void> {
  if (node.readOnly) return;
  try {
    await flush(node);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError('An IO error has occurred', { cause: error });
  }
}

function checkMayBeOverlay(overlay: BlockNode): void {
  if ((cumulativePermissions(overlay).perm & PERM_CONSISTENT_READ) !== 0) {
    throw new QmpError('The overlay is already in use');
  }
  if (overlay.driver.kind === 'filter') throw new QmpError('Filters cannot be used as overlays');
  if (overlay.backing !== undefined) {
    throw new QmpError('The overlay already has a backing image');
  }
  if (overlay.driver.supportsBacking !== true) {
    throw new QmpError('The overlay does not support backing images');
  }
}

async function openOverlay(
  graph: GraphAccess,
  base: BlockNode,
  args: BlockdevSnapshotSync,
): Promise<BlockNode> {
  const { 'snapshot-file': filename, 'snapshot-node-name': name, format = 'qcow2' } = args;
  if (args['node-name'] !== undefined && name === undefined) {
    throw new QmpError('New overlay node-name missing');
  }
  if (name !== undefined && graph.lookUp(name) !== undefined) {
    throw new QmpError('New overlay node-name already in use');
  }
  if (args.mode !== 'existing') await makeOverlay(graph, base, { filename, format });
  const driver = graph.driver(format);
  if (driver === undefined) throw new QmpError(`Unknown driver '${format}'`);
  const own = {
    ...(isJsonFilename(filename)
      ? await optionsInName(graph, filename, format)
      : { driver: driver.name, ...fileMember(driver, filename) }),
    ...(name === undefined ? {} : { 'node-name': name }),
  } as BlockdevOptions;
  if (driver.supportsBacking !== true) return graph.open(own, base);
  // The backing file is to be the node, whatever the image says; nobody asked for there being none.
  const overlay = await graph.open({ ...own, backing: null } as BlockdevOptions, base);
  overlay.options = own;
  delete overlay.effectiveOptions['backing'];
  return overlay;
}

function fileMember({ kind }: BlockDriver, filename: string): object {
  return kind === 'protocol' ? { filename } : { file: fileOptions(filename) };
}

function optionsInName(
  graph: GraphAccess,
  filename: string,
  driver: string,
): Promise<BlockdevOptions> {
  const place = { level: 'image', driver } as const;
  return jsonFilenameOptions(filename, place, {
    driver(name) {
      const found = graph.driver(name);
      if (found === undefined) throw new QmpError(`Unknown driver '${name}'`);
      return found;
    },
    format() {
      throw new QmpError('Must specify either driver or file');
    },
  });
}

/** Makes an image of the length of `base`, with its name as backing file. Throws QmpError. */
async function makeOverlay(
  graph: GraphAccess,
  base: BlockNode,
  { filename, format }: { readonly filename: string; readonly format: string },
): Promise<void> {
  const driver = graph.driver(format);
  if (driver === undefined) throw new QmpError(`Unknown file format '${format}'`);
  const file = fileOptions(filename);
  // Any file is a raw image: nobody has to make one.
  if (driver.create === undefined && driver.name !== 'raw') {
    throw new QmpError(`Format driver '${format}' does not support image creation`);
  }
  if (driver.describeOverlay === undefined) {
    throw new QmpError(`Backing file not supported for file format '${format}'`);
  }
  const backing = filenameOf(base);
  if (filename === backing) {
    throw new QmpError(
      'Error: Trying to create an image with the same filename as the backing file',
    );
  }
  const image = { size: base.length, backingFile: backing, backingFormat: base.driver.name };
  graph.print(`Formatting '${filename}', fmt=${driver.name} ${driver.describeOverlay(image)}\n`);
  try {
    if (file.driver === 'file') {
      await graph.make({ driver: 'file', filename: file.filename, size: 0 });
    }
    await graph.make({
      driver: driver.name,
      file,
      size: image.size,
      'backing-file': image.backingFile,
      'backing-fmt': image.backingFormat,
    } as BlockdevCreateOptions);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(error.reason, { cause: error });
  }
}
