// A dirty bitmap of a node: which granules of it have been written since the bitmap was made or cleared. It lives as long as
// its node; one that is persistent the node's driver keeps in the image, too.

import { Bitmap } from '../base/bitmap.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockDirtyInfo } from '../qapi/generated/types.ts';
import type { BlockNode } from './block-node.ts';

/** Granules of a bitmap: the reference's limit, beyond which it aborts. Runs of equal granules take no memory. */
const MAX_GRANULES = 2 ** 41;

export interface DirtyBitmapSettings {
  readonly name: string;
  /** Bytes, a power of 2. */
  readonly granularity: number;
  /** Of the node, in bytes. */
  readonly length: number;
  readonly enabled: boolean;
}

/** A dirty area; bytes. */
export interface DirtyArea {
  readonly offset: number;
  readonly length: number;
}

export class DirtyBitmap {
  readonly name: string;
  readonly granularity: number;
  /** Writes are noted. */
  enabled: boolean;
  /** In use by an export or a job: not to be changed by commands. */
  busy = false;
  /** To be kept in the image. */
  persistent = false;
  /** The image is not ours to write: neither may the bitmap change, nor what it is about. */
  readOnly = false;
  /** Somebody did not store it: nobody knows its content, and it can only be removed. Its `enabled` is false. */
  inconsistent = false;
  #length: number;
  readonly #granules: Bitmap;

  /** Throws QmpError when it would have too many granules. */
  constructor({ name, granularity, length, enabled }: DirtyBitmapSettings) {
    const granules = Math.ceil(length / granularity);
    if (granules > MAX_GRANULES) {
      throw new QmpError(
        `Bitmap '${name}' would have more than ${MAX_GRANULES} bits: the granularity ${granularity} is too small`,
      );
    }
    this.name = name;
    this.granularity = granularity;
    this.enabled = enabled;
    this.#length = length;
    this.#granules = new Bitmap(granules);
  }

  /** Bytes that it covers. */
  get length(): number {
    return this.#length;
  }

  /** Bytes in granules that are dirty; may be more than the length. */
  get dirtyBytes(): number {
    return this.#granules.count * this.granularity;
  }

  /** Makes an area dirty, as far as it is covered. */
  mark(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#length);
    if (end <= offset) return;
    const { granularity } = this;
    this.#granules.set(Math.floor(offset / granularity), Math.floor((end - 1) / granularity));
  }

  clear(): void {
    this.#granules.clearAll();
  }

  /** The answer makes dirty again what is dirty now, and nothing else. */
  remember(): () => void {
    const then = new Bitmap(this.granules);
    then.union(this.#granules);
    return () => {
      then.resize(this.granules);
      this.#granules.clearAll();
      this.#granules.union(then);
    };
  }

  /** Follows the node's length, in bytes. What is new is clean. */
  truncate(length: number): void {
    this.#length = length;
    this.#granules.resize(Math.ceil(length / this.granularity));
  }

  /** The first dirty area of [start, end), in bytes, cut at both. */
  nextDirtyArea(start: number, end: number): DirtyArea | undefined {
    const { granularity } = this;
    const limit = Math.min(end, this.#length);
    if (start >= limit) return undefined;
    const last = Math.ceil(limit / granularity);
    const dirty = this.#granules.nextSet(Math.floor(start / granularity), last);
    if (dirty < 0) return undefined;
    const clean = this.#granules.nextClear(dirty, last);
    const offset = Math.max(start, dirty * granularity);
    const areaEnd = clean < 0 ? limit : Math.min(clean * granularity, limit);
    return { offset, length: areaEnd - offset };
  }

  /** Makes dirty what is dirty in `source`, whatever its granularity; both have the same length. */
  merge(source: DirtyBitmap): void {
    if (source === this) return;
    if (source.granularity === this.granularity) {
      this.#granules.union(source.#granules);
      return;
    }
    let start = 0;
    for (;;) {
      const area = source.nextDirtyArea(start, source.#length);
      if (area === undefined) return;
      this.mark(area.offset, area.length);
      start = area.offset + area.length;
    }
  }

  /** How many granules there are. */
  get granules(): number {
    return this.#granules.length;
  }

  /** As in Bitmap: a bit for each granule. */
  copyTo(firstGranule: number, into: Uint8Array): void {
    this.#granules.copyTo(firstGranule, into);
  }

  copyFrom(firstGranule: number, bytes: Uint8Array): void {
    this.#granules.copyFrom(firstGranule, bytes);
  }

  /** Makes granules dirty, whether writes are noted or not; both are inclusive. */
  setGranules(first: number, last: number): void {
    this.#granules.set(first, last);
  }

  /** The first granule of [from, end) that is dirty, or that is clean; -1 for none. */
  nextDirtyGranule(from: number, end: number): number {
    return this.#granules.nextSet(from, end);
  }

  nextCleanGranule(from: number, end: number): number {
    return this.#granules.nextClear(from, end);
  }

  /** A bit for each granule, in little-endian words of 64 bits. */
  bytes(): Iterable<Uint8Array> {
    return this.#granules.bytes();
  }

  /** One element of `dirty-bitmaps`. */
  info(): BlockDirtyInfo {
    return {
      name: this.name,
      count: this.dirtyBytes,
      granularity: this.granularity,
      recording: this.enabled,
      busy: this.busy,
      persistent: this.persistent,
      ...(this.inconsistent ? { inconsistent: true } : {}),
    };
  }

  /** Throws QmpError when it cannot be read or enabled. The texts are the reference's, as with the others. */
  checkUsable(): void {
    this.checkNotBusy();
    this.#checkConsistent();
  }

  /** Throws QmpError when its content cannot be changed. */
  checkChangeable(): void {
    this.checkRemovable();
    this.#checkConsistent();
  }

  /** Throws QmpError when it cannot be removed. */
  checkRemovable(): void {
    this.checkNotBusy();
    if (this.readOnly) {
      throw new QmpError(`Bitmap '${this.name}' is readonly and cannot be modified`);
    }
  }

  /** Throws QmpError with the reference's text while something uses it. */
  checkNotBusy(): void {
    if (this.busy) {
      throw new QmpError(
        `Bitmap '${this.name}' is currently in use by another operation and cannot be used`,
      );
    }
  }

  #checkConsistent(): void {
    if (!this.inconsistent) return;
    throw new QmpError(`Bitmap '${this.name}' is inconsistent and cannot be used`, {
      hint: 'Try block-dirty-bitmap-remove to delete this bitmap from disk',
    });
  }
}

/** The node's bitmap of that name. */
export function findDirtyBitmap(node: BlockNode, name: string): DirtyBitmap | undefined {
  return node.dirtyBitmaps.find((bitmap) => bitmap.name === name);
}
