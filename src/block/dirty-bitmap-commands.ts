// What the commands for dirty bitmaps do, in the reference's order of checks and its words.

import { createHash } from 'node:crypto';
import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type {
  BlockDirtyBitmap,
  BlockDirtyBitmapAdd,
  BlockDirtyBitmapMerge,
} from '../qapi/generated/types.ts';
import type { BlockNode } from './block-node.ts';
import { DirtyBitmap, findDirtyBitmap } from './dirty-bitmap.ts';
import type { GraphAccess } from './graph-access.ts';
import { imageState } from './image-state.ts';

/** Where nodes are found by name. */
export type Nodes = Pick<GraphAccess, 'find' | 'lookUp'>;

/** Bytes in a bitmap's name. */
const MAX_NAME = 1023;

const MIN_GRANULARITY = 512;

/** Granularity where the user and the image say nothing, and the bounds of what an image says; bytes. */
const DEFAULT_GRANULARITY = 64 * 1024;
const MIN_DEFAULT_GRANULARITY = 4096;

/** Bytes of a bitmap that are hashed before others get their turn. */
const HASH_TURN = 16 * 1024 * 1024;

/** block-dirty-bitmap-add. Throws QmpError, as all of them do. */
export function addDirtyBitmap(graph: Nodes, args: BlockDirtyBitmapAdd): void {
  const { name } = args;
  if (name === '') throw new QmpError('Bitmap name cannot be empty');
  const node = graph.find(args.node, args.node);
  const granularity = args.granularity ?? defaultGranularity(node);
  if (granularity < MIN_GRANULARITY || !isPowerOf2(granularity)) {
    throw new QmpError('Granularity must be power of 2 and at least 512');
  }
  const persistent = args.persistent === true;
  if (persistent) checkCanStore(node, name, granularity);
  if (findDirtyBitmap(node, name) !== undefined) {
    throw new QmpError(`Bitmap already exists: ${name}`);
  }
  if (Buffer.byteLength(name) > MAX_NAME) throw new QmpError(`Bitmap name too long: ${name}`);
  const enabled = args.disabled !== true;
  const bitmap = new DirtyBitmap({ name, granularity, length: lengthOf(node), enabled });
  bitmap.persistent = persistent;
  node.dirtyBitmaps.unshift(bitmap);
}

function checkCanStore(node: BlockNode, name: string, granularity: number): void {
  if (node.driver.checkCanStoreBitmap === undefined) {
    const reason = strerror(errno.ENOTSUP);
    throw new QmpError(`Can't store persistent bitmaps to ${node.nodeName}: ${reason}`);
  }
  if (!node.active) {
    throw new QmpError(
      `Can't make bitmap '${name}' persistent in '${node.nodeName}': Node is inactive`,
    );
  }
  node.driver.checkCanStoreBitmap(node, name, granularity);
}

/** block-dirty-bitmap-remove: from the image, too. */
export async function removeDirtyBitmap(graph: Nodes, which: BlockDirtyBitmap): Promise<void> {
  const taken = await takeDirtyBitmap(graph, which);
  taken.remove();
}

/** Takes a bitmap out of its image, to be removed or kept after all; until then nothing else may take hold of it. */
export async function takeDirtyBitmap(
  graph: Nodes,
  which: BlockDirtyBitmap,
): Promise<{ remove(): void; keep(): void }> {
  const { node, bitmap } = lookUp(graph, which);
  bitmap.checkRemovable();
  bitmap.busy = true;
  const keep = (): void => {
    bitmap.busy = false;
  };
  const remove = (): void => {
    bitmap.busy = false;
    node.dirtyBitmaps.splice(node.dirtyBitmaps.indexOf(bitmap), 1);
  };
  try {
    if (bitmap.persistent) await node.driver.removeStoredBitmap?.(node, bitmap.name);
    return { remove, keep };
  } catch (error) {
    keep();
    throw error;
  }
}

/** block-dirty-bitmap-clear. */
export function clearDirtyBitmap(graph: Nodes, which: BlockDirtyBitmap): void {
  const { bitmap } = lookUp(graph, which);
  bitmap.checkChangeable();
  bitmap.clear();
}

/** block-dirty-bitmap-enable and -disable. */
export function enableDirtyBitmap(
  graph: Nodes,
  which: BlockDirtyBitmap,
  { enabled }: { readonly enabled: boolean },
): void {
  const { bitmap } = lookUp(graph, which);
  bitmap.checkUsable();
  bitmap.enabled = enabled;
}

/** block-dirty-bitmap-merge: all of the sources or none. */
export function mergeDirtyBitmaps(graph: Nodes, args: BlockDirtyBitmapMerge): void {
  const { node, bitmap: target } = lookUp(graph, { node: args.node, name: args.target });
  const sources = args.bitmaps.map((given) => {
    const source = typeof given === 'string' ? bitmapOf(node, given) : lookUp(graph, given).bitmap;
    target.checkChangeable();
    source.checkUsable();
    if (source.length !== target.length) {
      throw new QmpError(
        `Bitmaps are of different sizes (destination size is ${target.length}, ` +
          `source size is ${source.length}) and can't be merged`,
      );
    }
    return source;
  });
  for (const source of sources) target.merge(source);
}

/** x-debug-block-dirty-bitmap-sha256: of the bitmap's words, in hexadecimal digits. */
export async function hashDirtyBitmap(graph: Nodes, which: BlockDirtyBitmap): Promise<string> {
  const hash = createHash('sha256');
  let hashed = 0;
  for (const piece of lookUp(graph, which).bitmap.bytes()) {
    hash.update(piece);
    hashed += piece.length;
    if (hashed < HASH_TURN) continue;
    hashed = 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return hash.digest('hex');
}

/** The bitmap that a node and a name stand for. Throws QmpError with the reference's text. */
export function lookUpDirtyBitmap(
  graph: Pick<Nodes, 'lookUp'>,
  which: BlockDirtyBitmap,
): DirtyBitmap {
  return lookUp(graph, which).bitmap;
}

function lookUp(
  graph: Pick<Nodes, 'lookUp'>,
  which: BlockDirtyBitmap,
): { readonly node: BlockNode; readonly bitmap: DirtyBitmap } {
  const node = graph.lookUp(which.node);
  if (node === undefined) throw new QmpError(`Node '${which.node}' not found`);
  return { node, bitmap: bitmapOf(node, which.name) };
}

function bitmapOf(node: BlockNode, name: string): DirtyBitmap {
  const bitmap = findDirtyBitmap(node, name);
  if (bitmap === undefined) throw new QmpError(`Dirty bitmap '${name}' not found`);
  return bitmap;
}

/** The image's cluster size, within reason. */
function defaultGranularity(node: BlockNode): number {
  const clusterSize = imageState(node)?.clusterSize ?? 0;
  if (clusterSize === 0) return DEFAULT_GRANULARITY;
  return Math.min(Math.max(clusterSize, MIN_DEFAULT_GRANULARITY), DEFAULT_GRANULARITY);
}

function isPowerOf2(value: number): boolean {
  return 2 ** Math.round(Math.log2(value)) === value;
}

function lengthOf(node: BlockNode): number {
  try {
    return node.length;
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`could not get length of device: ${strerror(error.errno)}`, {
      cause: error,
    });
  }
}
