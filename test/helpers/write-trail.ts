// What reaches an image file, for playing it back: the file as it would be had the writer been killed, or the power been lost,
// at any moment.

import type { MaybePromise } from '../../src/base/io-buffer.ts';
import type { BlockDrivers } from '../../src/block/block-graph.ts';
import type { BlockNode } from '../../src/block/block-node.ts';
import { blockDrivers } from '../../src/block/drivers/index.ts';

/** The node whose file is the external data file. */
export const DATA_NODE = 'data';
const SECTOR = 512;

interface TrailWrite {
  /** The name of the node. */
  readonly node: string;
  readonly begun: number;
  readonly offset: number;
  /** Undefined: the file ends at `offset` from here on. */
  readonly bytes: Buffer | undefined;
  /** Which of its sectors are there, by their index in the write; all when absent. */
  readonly isThere?: (sector: number) => boolean;
  done: number;
  /** From when on it is on disk for sure. */
  safe: number;
}

/** The file at some moment. */
export interface TrailState {
  readonly bytes: Buffer;
  /** An external data file, where there is one. */
  readonly data: Buffer | undefined;
  /** What was over by then happened before; for a loss of power the earliest such time, else the latest. */
  readonly clock: number;
  /** Some of what was not flushed is missing. */
  readonly lossy: boolean;
}

export class WriteTrail {
  #running = false;
  #clock = 0;
  readonly #writes: TrailWrite[] = [];
  readonly #turns: () => number;

  /** `turns`: for how many turns of the event loop each write waits before it begins. */
  constructor(turns: () => number = () => 0) {
    this.#turns = turns;
  }

  get length(): number {
    return this.#writes.length;
  }

  readonly drivers: BlockDrivers = {
    file: {
      ...blockDrivers.file,
      write: (node, offset, length, from, at, flags) =>
        this.#afterTurns(() =>
          this.#note(node, offset, Buffer.from(from.bytes.subarray(at, at + length)), () =>
            blockDrivers.file.write?.(node, offset, length, from, at, flags),
          ),
        ),
      writeZeroes: (node, offset, length, flags) =>
        this.#note(node, offset, Buffer.alloc(length), () =>
          blockDrivers.file.writeZeroes?.(node, offset, length, flags),
        ),
      discard: (node, offset, length) =>
        this.#note(node, offset, Buffer.alloc(length), () =>
          blockDrivers.file.discard?.(node, offset, length),
        ),
      truncate: (node, length, options) =>
        this.#note(node, length, undefined, () =>
          blockDrivers.file.truncate?.(node, length, options),
        ),
      flush: async (node) => {
        const before = this.tick();
        await blockDrivers.file.flush?.(node);
        const after = this.tick();
        for (const write of this.#writes) {
          if (write.node === node.nodeName && write.done < before && write.safe > after) {
            write.safe = after;
          }
        }
      },
    },
  };

  begin(): void {
    this.#running = true;
  }

  /** Now, to be compared with the clock of states. */
  tick(): number {
    return ++this.#clock;
  }

  /**
   * The file after every prefix of what was written; and, as after a loss of power, with only some of what was not flushed, or
   * only some of its sectors. `data`: what the node that DATA_NODE names held before.
   */
  *states(before: Buffer, next: () => number, data?: Buffer): Generator<TrailState> {
    const state = (writes: readonly TrailWrite[]): Pick<TrailState, 'bytes' | 'data'> => ({
      bytes: replayed(before, writes, (node) => data === undefined || node !== DATA_NODE),
      data: data && replayed(data, writes, (node) => node === DATA_NODE),
    });
    for (let count = 0; count <= this.#writes.length; count++) {
      const all = this.#writes.slice(0, count);
      const clock = (this.#writes[count]?.begun ?? Number.POSITIVE_INFINITY) - 1;
      yield { ...state(all), clock, lossy: false };
      const now = all.at(-1)?.begun ?? 0;
      // The most that may be missing is missing just before a flush.
      const beforeFlush = all.some((one) => one.safe > now && one.safe <= clock);
      if (!beforeFlush && count % 4 !== 0) continue;
      const unsafe = all.filter(({ safe }) => safe >= now);
      for (const loss of beforeFlush ? lossesOf(unsafe, next) : [partOf(next)]) {
        const some = all.map((one) => (one.safe < now ? one : loss(one)));
        yield { ...state(some), clock: now, lossy: true };
      }
    }
  }

  #afterTurns(write: () => MaybePromise<void>): MaybePromise<void> {
    const turns = this.#running ? this.#turns() : 0;
    return turns === 0 ? write() : later(turns, write);
  }

  #note(
    { nodeName: node }: BlockNode,
    offset: number,
    bytes: Buffer | undefined,
    write: () => MaybePromise<void>,
  ): MaybePromise<void> {
    if (!this.#running) return write();
    const never = Number.POSITIVE_INFINITY;
    const begun = this.tick();
    const noted: TrailWrite = { node, begun, offset, bytes, done: never, safe: never };
    this.#writes.push(noted);
    const finish = (): void => {
      noted.done = this.tick();
    };
    const later = write();
    if (later !== undefined) return later.then(finish);
    finish();
  }
}

async function later(turns: number, write: () => MaybePromise<void>): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
  await write();
}

/** What a loss of power leaves of a write. */
type Loss = (write: TrailWrite) => TrailWrite;

/** What may become of all that waits for a flush. */
function* lossesOf(unsafe: readonly TrailWrite[], next: () => number): Generator<Loss> {
  const last = unsafe.at(-1);
  const chosen = unsafe[Math.floor(next() * unsafe.length)];
  // The last one came first, one has to wait for all others, or none has come; what made the file shorter always has.
  yield (write) => (write === last ? write : lost(write));
  yield (write) => (write === chosen ? lost(write) : write);
  yield lost;
  yield partOf(next);
  yield partOf(next);
  // What the header says decides what all else means.
  for (const header of unsafe.filter(isHeader)) {
    yield (write) => (write === header ? write : lost(write));
    yield (write) => (write === header ? lost(write) : write);
  }
}

function isHeader({ node, offset }: TrailWrite): boolean {
  return node !== DATA_NODE && offset < SECTOR;
}

/** All, nothing, or any of its sectors. */
function partOf(next: () => number): Loss {
  return (write) => {
    const chance = next();
    if (chance < 0.4 || write.bytes === undefined) return write;
    if (chance < 0.8) return lost(write);
    const sectors = Array.from({ length: Math.ceil(write.bytes.length / SECTOR) + 1 }, next);
    return { ...write, isThere: (sector) => (sectors[sector] ?? 0) < 0.5 };
  };
}

function lost(write: TrailWrite): TrailWrite {
  return { ...write, isThere: () => false };
}

/** A write that is missing has made the file longer all the same: its length is the file system's own affair. */
function replayed(
  before: Buffer,
  all: readonly TrailWrite[],
  isIn: (node: string) => boolean,
): Buffer {
  const writes = all.filter(({ node }) => isIn(node));
  const ends = writes.map(({ offset, bytes }) => offset + (bytes?.length ?? 0));
  const file = Buffer.alloc(ends.reduce((longest, end) => Math.max(longest, end), before.length));
  before.copy(file);
  let { length } = before;
  for (const { offset, bytes, isThere } of writes) {
    if (bytes === undefined) {
      file.fill(0, offset, length);
      length = offset;
      continue;
    }
    length = Math.max(length, offset + bytes.length);
    if (isThere === undefined) bytes.copy(file, offset);
    else copySectors(bytes, file, offset, isThere);
  }
  return file.subarray(0, length);
}

function copySectors(
  bytes: Buffer,
  file: Buffer,
  offset: number,
  isThere: (sector: number) => boolean,
): void {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + SECTOR - ((offset + at) % SECTOR));
    if (isThere(Math.floor(at / SECTOR))) bytes.copy(file, offset + at, at, end);
    at = end;
  }
}
