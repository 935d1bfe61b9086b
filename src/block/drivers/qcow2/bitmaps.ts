// Persistent dirty bitmaps: loaded when the image is opened, stored when it is closed or becomes read-only. In between the image
// says of each that it is in use, so that whoever finds it like that knows that its content is out of date.

import { IoError } from '../../../base/errors.ts';
import { QmpError } from '../../../qapi/errors.ts';
import { DirtyBitmap, findDirtyBitmap } from '../../dirty-bitmap.ts';
import { filenameOf } from '../../filename.ts';
import { explained, freeContent, LoadBudget, loadContent, storeContent } from './bitmap-content.ts';
import {
  entryLength,
  MAX_BITMAP_BYTES,
  MAX_BITMAP_NAME,
  MAX_GRANULARITY_BITS,
  type StoredBitmap,
} from './bitmap-directory.ts';
import { replaceList, rereadBitmapList, updateInPlace } from './bitmap-list.ts';
import { MAX_BITMAP_DIRECTORY, MAX_BITMAPS } from './header-extensions.ts';
import type { Qcow2Image, Qcow2Node } from './image.ts';
import { freeClusters, settle } from './refcount.ts';

const MAX_GRANULARITY = 2 ** MAX_GRANULARITY_BITS;

/** Makes the bitmaps of the image those of the node, and marks them as in use where it may be written. Throws QmpError. */
export async function loadBitmaps(image: Qcow2Image): Promise<void> {
  const { node, bitmaps: list, size } = image;
  if (list.bitmaps.length === 0) return;
  const budget = new LoadBudget();
  const loaded: DirtyBitmap[] = [];
  const names = new Set(node.dirtyBitmaps.map(nameOf));
  for (const stored of list.bitmaps) {
    const { name, granularityBits, inUse, auto } = stored;
    if (names.has(name)) throw new QmpError(`Bitmap already exists: ${name}`);
    names.add(name);
    const granularity = 2 ** granularityBits;
    const bitmap = new DirtyBitmap({ name, granularity, length: size, enabled: auto && !inUse });
    if (!inUse) await loadContent(image, stored, bitmap, budget);
    bitmap.persistent = true;
    bitmap.inconsistent = inUse;
    bitmap.readOnly = node.readOnly;
    loaded.push(bitmap);
  }
  if (!node.readOnly) {
    await explained(() => markInUse(image), "Can't update bitmap directory");
  }
  node.dirtyBitmaps.splice(0, 0, ...loaded.toReversed());
}

async function markInUse(image: Qcow2Image): Promise<void> {
  const { bitmaps } = image.bitmaps;
  if (bitmaps.every(({ inUse }) => inUse)) return;
  await updateInPlace(
    image,
    bitmaps.map((bitmap) => ({ ...bitmap, inUse: true })),
  );
}

/** The node is writable again: so are its bitmaps. Throws QmpError: they are as they were, and so nothing can be written. */
export async function bitmapsToReadWrite(image: Qcow2Image): Promise<void> {
  if (image.bitmaps.bitmaps.length === 0) return;
  const { node } = image;
  // It may lie in another file by now.
  const list = await rereadBitmapList(image);
  image.bitmaps = list;
  const filename = filenameOf(node);
  const inMemory = byName(node.dirtyBitmaps);
  for (const { name, inUse } of list.bitmaps) {
    const bitmap = inMemory.get(name);
    if (bitmap === undefined) {
      throw new QmpError(`Unexpected bitmap '${name}' in image '${filename}'`);
    }
    if (!inUse && !bitmap.readOnly) {
      throw new QmpError(
        `Corruption: bitmap '${name}' is not marked IN_USE in the image '${filename}' and not marked readonly in RAM`,
      );
    }
  }
  await explained(() => image.lock.run(() => markInUse(image)), 'Cannot update bitmap directory');
  for (const { name } of list.bitmaps) {
    const bitmap = inMemory.get(name);
    if (bitmap !== undefined) bitmap.readOnly = false;
  }
}

/** Stores the node's bitmaps; from now on they are as in the image and do not change. Throws QmpError. */
export async function bitmapsToReadOnly(image: Qcow2Image): Promise<void> {
  await storeBitmaps(image);
  for (const bitmap of image.node.dirtyBitmaps) {
    if (bitmap.persistent) bitmap.readOnly = true;
  }
}

/** Writes the node's persistent bitmaps to the image. Throws QmpError: what was stored before still counts. */
export async function storeBitmaps(image: Qcow2Image): Promise<void> {
  const { node } = image;
  const wanted = node.dirtyBitmaps.filter(
    ({ persistent, inconsistent, readOnly }) => persistent && !inconsistent && !readOnly,
  );
  if (wanted.length === 0) return;
  checkBeforeStoring(image, wanted);
  await image.lock.run(() => store(image, wanted));
}

/** In the reference's order. */
function checkBeforeStoring(image: Qcow2Image, wanted: readonly DirtyBitmap[]): void {
  let count = image.bitmaps.bitmaps.length;
  let { length } = image.bitmaps;
  const inImage = byName(image.bitmaps.bitmaps);
  for (const { name, granularity } of wanted) {
    try {
      checkConstraints(image, name, granularity);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      throw new QmpError(`Bitmap '${name}' doesn't satisfy the constraints: ${error.message}`);
    }
    const stored = inImage.get(name);
    if (stored === undefined) {
      if (++count > MAX_BITMAPS) throw new QmpError('Too many persistent bitmaps');
      length += entryLength(Buffer.byteLength(name));
      if (length > MAX_BITMAP_DIRECTORY) throw new QmpError('Bitmap directory is too large');
    } else if (!stored.inUse) {
      throw new QmpError(`Bitmap '${name}' already exists in the image`);
    }
  }
  if (image.node.readOnly) throw new QmpError('No write access');
}

/** The lock is held. */
async function store(image: Qcow2Image, wanted: readonly DirtyBitmap[]): Promise<void> {
  const taken = new Set<number>();
  const old = image.bitmaps.bitmaps;
  const inImage = byName(old);
  const inMemory = byName(wanted);
  const next: StoredBitmap[] = [];
  const added = wanted.filter(({ name }) => !inImage.has(name));
  const dropped: StoredBitmap[] = [];
  try {
    for (const stored of [...old, ...added.map(newEntry)]) {
      const bitmap = inMemory.get(stored.name);
      if (bitmap === undefined) {
        next.push(stored);
        continue;
      }
      const place = await storeContent(image, bitmap, taken);
      if (stored.tableSize > 0) dropped.push(stored);
      next.push({
        ...stored,
        ...place,
        granularityBits: Math.log2(bitmap.granularity),
        inUse: false,
        auto: bitmap.enabled,
      });
    }
    await explained(() => replaceList(image, next, taken), 'Failed to update bitmap extension');
  } catch (error) {
    await giveBack(image, taken);
    throw error;
  }
  for (const stored of dropped) await freeContent(image, stored, taken);
}

function newEntry({ name, granularity, enabled }: DirtyBitmap): StoredBitmap {
  return {
    name,
    nameBytes: Buffer.from(name),
    granularityBits: Math.log2(granularity),
    tableOffset: 0n,
    tableSize: 0,
    inUse: false,
    auto: enabled,
  };
}

/** Removes a bitmap from the image; one that is not there yet is none to remove. Throws QmpError. */
export async function removeStoredBitmap(image: Qcow2Image, name: string): Promise<void> {
  await image.lock.run(async () => {
    const { bitmaps } = image.bitmaps;
    const removed = bitmaps.find((stored) => stored.name === name);
    if (removed === undefined) return;
    const taken = new Set<number>();
    const rest = bitmaps.filter((stored) => stored !== removed);
    try {
      await explained(() => replaceList(image, rest, taken), 'Failed to update bitmap extension');
    } catch (error) {
      await giveBack(image, taken);
      throw error;
    }
    await freeContent(image, removed, taken);
    await discardNow(image);
  });
}

/** Nothing on disk points at what was given up: the file system can have it back. What fails is done by the next flush. */
async function discardNow(image: Qcow2Image): Promise<void> {
  try {
    await settle(image);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    image.log.debug(`Clusters of a bitmap are discarded later: ${error.message}`);
  }
}

/** Throws QmpError unless a new bitmap of that name can be kept in the image. */
export function checkCanStore(node: Qcow2Node, name: string, granularity: number): void {
  if (findDirtyBitmap(node, name) !== undefined) {
    throw new QmpError(`Bitmap already exists: ${name}`);
  }
  try {
    checkRoom(node.state, name, granularity);
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(
      `Can't make bitmap '${name}' persistent in '${node.nodeName}': ${error.message}`,
    );
  }
}

function checkRoom(image: Qcow2Image, name: string, granularity: number): void {
  if (image.geometry.version < 3) {
    throw new QmpError('Cannot store dirty bitmaps in qcow2 v2 files');
  }
  checkConstraints(image, name, granularity);
  const names = [name, ...image.node.dirtyBitmaps.filter((one) => one.persistent).map(nameOf)];
  if (names.length > MAX_BITMAPS) {
    throw new QmpError('Maximum number of persistent bitmaps is already reached');
  }
  const length = names.reduce((sum, one) => sum + entryLength(Buffer.byteLength(one)), 0);
  if (length > MAX_BITMAP_DIRECTORY) {
    throw new QmpError('Not enough space in the bitmap directory');
  }
}

/** There may be tens of thousands. */
function byName<T extends { readonly name: string }>(bitmaps: readonly T[]): Map<string, T> {
  return new Map(bitmaps.map((bitmap) => [bitmap.name, bitmap]));
}

function nameOf({ name }: DirtyBitmap): string {
  return name;
}

function checkConstraints(image: Qcow2Image, name: string, granularity: number): void {
  if (granularity > MAX_GRANULARITY) {
    throw new QmpError(`Granularity exceeds maximum (${MAX_GRANULARITY} bytes)`);
  }
  if (Math.ceil(Math.ceil(image.size / granularity) / 8) > MAX_BITMAP_BYTES) {
    throw new QmpError('Too much space will be occupied by the bitmap. Use larger granularity');
  }
  if (Buffer.byteLength(name) > MAX_BITMAP_NAME) {
    throw new QmpError(`Name length exceeds maximum (${MAX_BITMAP_NAME} characters)`);
  }
}

/** Throws QmpError when the disk's length cannot change because of a bitmap in the image. */
export function checkResizable(image: Qcow2Image): void {
  const inMemory = byName(image.node.dirtyBitmaps);
  for (const { name } of image.bitmaps.bitmaps) {
    const bitmap = inMemory.get(name);
    if (bitmap === undefined) {
      throw new QmpError(
        'Cannot resize qcow2 with persistent bitmaps that were not loaded into memory',
      );
    }
    bitmap.checkChangeable();
  }
}

/** Gives up clusters that nothing points at. */
async function giveBack(image: Qcow2Image, taken: ReadonlySet<number>): Promise<void> {
  try {
    for (const first of taken) await freeClusters(image, { first, count: 1 });
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    image.log.debug(`Clusters of bitmaps are lost: ${error.message}`);
  }
}
