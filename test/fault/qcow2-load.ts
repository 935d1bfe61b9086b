// A random load for a disk whose image is recorded, and what the disk may hold afterwards: every sector the number of the
// request that wrote it last, or of one that was not flushed.

import { IoError } from '../../src/base/errors.ts';
import type { BlockBackend } from '../../src/block/block-backend.ts';
import { MAY_UNMAP, WRITE_COMPRESSED, ZERO_WRITE } from '../../src/block/block-driver.ts';
import { markOf, noisyWords, plainWords, SECTOR } from '../helpers/marked-words.ts';
import { bufferOf } from '../helpers/qcow2-disk.ts';
import type { TrailState, WriteTrail } from '../helpers/write-trail.ts';

const PARALLEL = 4;
const PARALLEL_OVERLAPPING = 32;

type Kind = 'write' | 'zero' | 'unmap' | 'discard' | 'compressed' | 'flush' | 'resize' | 'snapshot';
/** How often each is chosen, of all. */
export type Weights = Readonly<Partial<Record<Kind, number>>>;

interface Done {
  /** `grow` and `cut`: the disk becomes longer, or shorter. */
  readonly kind: Exclude<Kind, 'resize'> | 'grow' | 'cut';
  readonly first: number;
  readonly end: number;
  readonly value: number;
  readonly begun: number;
}

/** Takes and deletes internal snapshots. */
export interface SnapshotCommands {
  take(name: string): Promise<unknown>;
  drop(name: string): Promise<unknown>;
}

export interface LoadOptions {
  readonly backend: BlockBackend;
  readonly trail: WriteTrail;
  readonly next: () => number;
  readonly count: number;
  readonly weights: Weights;
  readonly clusterSize: number;
  /** The longest request, in clusters. */
  readonly mostClusters: number;
  /** The longest disk that a resize makes, bytes. */
  readonly longest: number;
  /** What the sectors of the disk hold at first. */
  readonly initial: Uint32Array;
  /** What shines through where nothing is. */
  readonly backing: Uint32Array;
  readonly snapshots: SnapshotCommands;
  /** All that is written compressed gets shorter. */
  readonly compresses: boolean;
  /** Requests at the same time may overlap, flushes, too: a sector holds what any of them wrote to it. */
  readonly overlaps: boolean;
}

export class Load {
  readonly #options: LoadOptions;
  readonly #done: Done[] = [];
  /** When flushes were over, with how much was done when they began. */
  readonly #flushes: { readonly clock: number; readonly count: number }[] = [];
  readonly #sizes: { readonly clock: number; readonly size: number }[];
  /** What snapshots hold, by their names. */
  readonly #kept = new Map<string, Uint32Array>();
  /** Of those that were not deleted, oldest first. */
  readonly #names: string[] = [];

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#sizes = [{ clock: 0, size: options.backend.length }];
  }

  async run(): Promise<void> {
    const { next, count, backend, trail } = this.#options;
    let running: Promise<void>[] = [];
    let busy: Done[] = [];
    const settle = async (): Promise<void> => {
      await Promise.all(running);
      running = [];
      busy = [];
    };
    for (let index = 0; index < count; index++) {
      const kind = this.#kind();
      if (kind === 'flush' && this.#options.overlaps) {
        running.push(Promise.resolve(backend.flush()));
        continue;
      }
      if (kind === 'flush') {
        await settle();
        const before = this.#done.length;
        await backend.flush();
        this.#flushes.push({ clock: trail.tick(), count: before });
        continue;
      }
      if (kind === 'resize') {
        await settle();
        await this.#resize(Math.ceil(next() * (this.#options.longest / SECTOR)) * SECTOR);
        continue;
      }
      if (kind === 'snapshot') {
        await settle();
        await this.#snapshot();
        continue;
      }
      const [first, end] = this.#place(kind);
      if (running.length >= (this.#options.overlaps ? PARALLEL_OVERLAPPING : PARALLEL))
        await settle();
      // Requests at the same time must not overlap: which one wins would be anybody's guess.
      const meets = busy.some((one) => one.first < end && first < one.end);
      if (meets && !this.#options.overlaps) await settle();
      const value = kind === 'write' || kind === 'compressed' ? this.#done.length + 1 : 0;
      const done = { kind, first, end, value, begun: trail.tick() };
      this.#done.push(done);
      busy.push(done);
      running.push(this.#carryOut(done));
    }
    await settle();
  }

  /** What is wrong with a disk in that state. */
  *wrong(disk: Buffer, { clock, lossy }: TrailState): Generator<string> {
    const { initial, backing, overlaps } = this.#options;
    const flush = this.#flushes.findLast((one) => one.clock < clock);
    const durable = flush?.count ?? 0;
    const from = this.#sizes.findLastIndex((one) => one.clock < (flush?.clock ?? 0));
    const sizes = this.#sizes.slice(Math.max(0, from)).map(({ size }) => size);
    if (!sizes.includes(disk.length)) yield `length ${disk.length}, not ${sizes.join(' or ')}`;
    const expected = initial.slice();
    const later = new Map<number, Set<number>>();
    for (const [index, { kind, first, end, value, begun }] of this.#done.entries()) {
      if (begun > clock) break;
      if (index < durable && !overlaps) {
        expected.fill(value, first, end);
        continue;
      }
      for (let sector = first; sector < end; sector++) {
        const values = later.get(sector) ?? new Set();
        values.add(value).add(0);
        if (kind === 'discard' || kind === 'cut') values.add(backing[sector] ?? 0);
        later.set(sector, values);
      }
    }
    for (const { sector, mark } of unexpected(disk, expected)) {
      const values = later.get(sector);
      if (values !== undefined && (lossy || values.has(mark))) continue;
      yield `sector ${sector}: ${mark}, not ${expected[sector]}`;
    }
  }

  /** What is wrong with what a snapshot shows, at any time. */
  *wrongSnapshot(name: string, disk: Buffer): Generator<string> {
    const expected = this.#kept.get(name);
    if (expected === undefined) return;
    for (const { sector, mark } of unexpected(disk, expected)) {
      yield `${name}, sector ${sector}: ${mark}, not ${expected[sector]}`;
    }
  }

  #kind(): Kind {
    const { weights, next } = this.#options;
    const rows = Object.entries(weights) as [Kind, number][];
    let left = next() * rows.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [kind, weight] of rows) {
      left -= weight;
      if (left < 0) return kind;
    }
    return 'write';
  }

  /** In sectors. Discards and compressed writes are of whole clusters. */
  #place(kind: Done['kind']): readonly [first: number, end: number] {
    const { next, clusterSize, mostClusters, backend } = this.#options;
    const whole = kind === 'discard' || kind === 'compressed';
    const unit = whole ? clusterSize / SECTOR : 1;
    const units = Math.max(1, Math.floor(backend.length / SECTOR / unit));
    const most =
      kind === 'compressed' ? 1 : Math.ceil((clusterSize / SECTOR / unit) * mostClusters);
    const length = Math.min(units, 1 + Math.floor(next() ** 3 * most));
    const first = Math.floor(next() * (units - length + 1));
    const end = Math.min((first + length) * unit, backend.length / SECTOR);
    return [first * unit, end];
  }

  async #carryOut({ kind, first, end, value }: Done): Promise<void> {
    const { backend } = this.#options;
    const offset = first * SECTOR;
    const length = (end - first) * SECTOR;
    if (kind === 'compressed') return this.#compressed(offset, length, value);
    if (kind === 'write') {
      return backend.write(offset, length, bufferOf(plainWords(length, value)), 0);
    }
    if (kind === 'discard') await backend.discard(offset, length);
    await backend.writeZeroes(offset, length, kind === 'unmap' ? MAY_UNMAP : 0);
  }

  /** Where something is left that cannot be given up, it is written as it is. */
  async #compressed(offset: number, length: number, value: number): Promise<void> {
    const { backend, compresses } = this.#options;
    const words = compresses ? plainWords(length, value) : noisyWords(offset, length, value);
    const data = bufferOf(words);
    await backend.writeZeroes(offset, length, MAY_UNMAP);
    try {
      await backend.write(offset, length, data, 0, WRITE_COMPRESSED);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      await backend.write(offset, length, data, 0);
    }
  }

  /** There are two of them at most. */
  async #snapshot(): Promise<void> {
    const { snapshots, next, initial, trail } = this.#options;
    const [oldest] = this.#names;
    if (oldest !== undefined && (this.#names.length === 2 || next() < 0.3)) {
      this.#names.shift();
      await snapshots.drop(oldest);
      return;
    }
    const name = `snapshot ${trail.tick()}`;
    const content = initial.slice();
    for (const { first, end, value } of this.#done) content.fill(value, first, end);
    this.#kept.set(name, content);
    this.#names.push(name);
    await snapshots.take(name);
  }

  async #resize(size: number): Promise<void> {
    const { backend, trail } = this.#options;
    const before = backend.length;
    const [first, end] = [Math.min(before, size) / SECTOR, Math.max(before, size) / SECTOR];
    const clock = trail.tick();
    const kind = size < before ? 'cut' : 'grow';
    this.#done.push({ kind, first, end, value: 0, begun: clock });
    this.#sizes.push({ clock, size });
    await backend.truncate(size, { exact: true, prealloc: 'off', flags: ZERO_WRITE });
  }
}

/** Words that do not say what their sector should. */
function* unexpected(
  disk: Buffer,
  expected: Uint32Array,
): Generator<{ readonly sector: number; readonly mark: number }> {
  const words = new Uint32Array(disk.buffer, disk.byteOffset, disk.length / 4);
  const perSector = SECTOR / 4;
  for (let sector = 0; sector * perSector < words.length; sector++) {
    const wanted = expected[sector];
    for (let at = sector * perSector; at < (sector + 1) * perSector; at++) {
      const word = words[at] ?? 0;
      if (word === wanted) continue;
      const mark = markOf(word, at);
      if (mark !== wanted) yield { sector, mark };
    }
  }
}
