// A bounded write-back cache of parts of an image's tables: L2 tables in slices, refcount blocks whole. All but `peek` is
// called with the image's lock held. A table is only good until the next wait: whoever waits asks for it again.
//
// What is written first: a cache may depend on the other one, which then is written and flushed before anything of this one.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import type { BlkdebugEvent } from '../../../qapi/generated/types.ts';
import { release } from '../../../sys/memory.ts';
import type { BlockChild } from '../../block-child.ts';

/** Tables are carved from memory of this many bytes. */
const SLAB = 1024 * 1024;
const PAGE = 4096;

export interface CachedTable {
  /** Where it is in the file. */
  offset: number;
  readonly buffer: IoBuffer;
  readonly view: DataView;
  dirty: boolean;
  /** Used since the hand of the clock came past. */
  used: boolean;
  /** Used since the last cleaning. */
  recent: boolean;
}

export interface TableCacheOptions {
  readonly file: BlockChild;
  /** Flushes all that was written to the image so far. */
  readonly flushFiles: () => MaybePromise<void>;
  readonly tableSize: number;
  /** How many tables at most, to begin with. */
  readonly capacity: number;
  readonly allocate: (length: number) => IoBuffer;
  /** What is told of when a table is read or written. */
  readonly events: { readonly load?: BlkdebugEvent; readonly update: BlkdebugEvent };
  /** Throws when a table must not be written to that place. */
  readonly checkPlace: (offset: number, length: number) => void;
}

export class TableCache {
  readonly tableSize: number;
  /** How many tables at most. Those that are there already may stay when it gets smaller. */
  capacity: number;
  readonly #options: TableCacheOptions;
  readonly #byOffset = new Map<number, CachedTable>();
  readonly #tables: CachedTable[] = [];
  readonly #free: CachedTable[] = [];
  #slab: IoBuffer | undefined = undefined;
  #slabUsed = 0;
  #hand = 0;
  #dirty = 0;
  #dependency: TableCache | undefined = undefined;
  #dependsOnFlush = false;
  /** A copy of what is being written, so that it may change meanwhile. */
  #bounce: IoBuffer | undefined = undefined;

  constructor(options: TableCacheOptions) {
    this.#options = options;
    this.tableSize = options.tableSize;
    this.capacity = options.capacity;
  }

  get hasDirty(): boolean {
    return this.#dirty > 0;
  }

  /** The table at `offset` if it is here. */
  peek(offset: number): CachedTable | undefined {
    const table = this.#byOffset.get(offset);
    if (table !== undefined) table.used = true;
    return table;
  }

  /** The table at `offset`, read when it is not here. */
  get(offset: number): MaybePromise<CachedTable> {
    return this.peek(offset) ?? this.#load(offset);
  }

  /** A table of zeroes that is to be at `offset`; nothing is read. Becomes dirty. */
  async create(offset: number): Promise<CachedTable> {
    const table = this.peek(offset) ?? this.#put(offset, await this.#place());
    table.buffer.bytes.fill(0);
    this.markDirty(table);
    return table;
  }

  markDirty(table: CachedTable): void {
    if (this.#byOffset.get(table.offset) !== table) throw new Error('A table that is not cached');
    table.used = true;
    table.recent = true;
    if (table.dirty) return;
    table.dirty = true;
    this.#dirty++;
  }

  /** Nothing of this cache may be written before all that `other` holds now. */
  async dependOn(other: TableCache): Promise<void> {
    if (other.#dependency !== undefined) await other.#flushDependency();
    if (this.#dependency !== undefined && this.#dependency !== other) await this.#flushDependency();
    this.#dependency = other;
  }

  /** Nothing of this cache may be written before the data written so far are on disk. */
  dependOnFlush(): void {
    this.#dependsOnFlush = true;
  }

  /** Writes every dirty table, after what it depends on; does not wait for the disk. */
  async write(): Promise<void> {
    if (this.#dirty === 0) return;
    await this.#settleDependencies();
    const dirty = this.#tables.filter((table) => table.dirty);
    dirty.sort((a, b) => a.offset - b.offset);
    for (const table of dirty) await this.#writeTable(table);
  }

  /** Writes every dirty table and waits for the disk. */
  async flush(): Promise<void> {
    await this.write();
    await this.#options.flushFiles();
  }

  /** Forgets the tables in an area, written or not: it is not theirs any more. */
  forget(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.tableSize) {
      const table = this.#byOffset.get(at);
      if (table !== undefined) this.#drop(table);
    }
  }

  /** Forgets everything, written or not. */
  empty(): void {
    for (const table of this.#tables.slice()) this.#drop(table);
    this.#dependency = undefined;
    this.#dependsOnFlush = false;
  }

  /** Gives back the memory of tables that were not used since the last time. */
  clean(): void {
    for (const table of this.#tables.slice()) {
      if (!table.dirty && !table.used && !table.recent) this.#drop(table);
      else if (!table.dirty) {
        table.recent = false;
        table.used = false;
      }
    }
    for (const { buffer } of this.#free) {
      if (this.tableSize % PAGE === 0 && buffer.address % PAGE === 0) release(buffer);
    }
  }

  async #load(offset: number): Promise<CachedTable> {
    const table = await this.#place();
    try {
      const { load } = this.#options.events;
      if (load !== undefined) this.#options.file.debugEvent(load);
      await this.#options.file.read(offset, this.tableSize, table.buffer, 0);
    } catch (error) {
      this.#free.push(table);
      throw error;
    }
    return this.#put(offset, table);
  }

  #put(offset: number, table: CachedTable): CachedTable {
    table.offset = offset;
    table.used = true;
    table.recent = true;
    this.#byOffset.set(offset, table);
    this.#tables.push(table);
    return table;
  }

  #drop(table: CachedTable): void {
    if (table.dirty) this.#dirty--;
    table.dirty = false;
    this.#byOffset.delete(table.offset);
    const at = this.#tables.indexOf(table);
    const last = this.#tables.pop();
    if (last !== undefined && last !== table) this.#tables[at] = last;
    this.#free.push(table);
  }

  /** A table that is nobody's: a new one while there may be more, else the one that was not used for the longest time. */
  async #place(): Promise<CachedTable> {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#tables.length < this.capacity) return this.#newTable();
    for (;;) {
      this.#hand = (this.#hand + 1) % this.#tables.length;
      const table = this.#tables[this.#hand];
      if (table === undefined) throw new IoError(errno.ENOMEM, { syscall: 'table cache' });
      if (table.used) {
        table.used = false;
        continue;
      }
      if (table.dirty) {
        await this.#settleDependencies();
        await this.#writeTable(table);
      }
      this.#byOffset.delete(table.offset);
      this.#tables.splice(this.#tables.indexOf(table), 1);
      return table;
    }
  }

  #newTable(): CachedTable {
    const { tableSize, allocate } = this.#options;
    if (this.#slab === undefined || this.#slabUsed + tableSize > this.#slab.bytes.length) {
      const room = Math.max(1, Math.min(this.capacity, Math.floor(SLAB / tableSize)));
      this.#slab = allocate(room * tableSize);
      this.#slabUsed = 0;
    }
    const { bytes, address } = this.#slab;
    const at = this.#slabUsed;
    this.#slabUsed += tableSize;
    const own = bytes.subarray(at, at + tableSize);
    const view = new DataView(own.buffer, own.byteOffset, tableSize);
    return {
      offset: -1,
      buffer: { bytes: own, view, address: address + at },
      view,
      dirty: false,
      used: false,
      recent: false,
    };
  }

  async #settleDependencies(): Promise<void> {
    if (this.#dependency !== undefined) await this.#flushDependency();
    else if (this.#dependsOnFlush) {
      await this.#options.flushFiles();
      this.#dependsOnFlush = false;
    }
  }

  async #flushDependency(): Promise<void> {
    await this.#dependency?.flush();
    this.#dependency = undefined;
    this.#dependsOnFlush = false;
  }

  async #writeTable(table: CachedTable): Promise<void> {
    const { file, tableSize, allocate, checkPlace, events } = this.#options;
    checkPlace(table.offset, tableSize);
    const bounce = (this.#bounce ??= allocate(tableSize));
    table.buffer.bytes.copy(bounce.bytes);
    file.debugEvent(events.update);
    await file.write(table.offset, tableSize, bounce, 0);
    table.dirty = false;
    this.#dirty--;
  }
}
