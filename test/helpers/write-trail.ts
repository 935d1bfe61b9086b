// What reaches an image file, for playing it back: the file as it would be had the writer been killed, or the power been lost,
// at any moment.

import type { MaybePromise } from '../../src/base/io-buffer.ts';
import type { BlockDrivers } from '../../src/block/block-graph.ts';
import { blockDrivers } from '../../src/block/drivers/index.ts';

interface TrailWrite {
  readonly begun: number;
  readonly offset: number;
  /** Undefined: the file ends at `offset` from here on. */
  readonly bytes: Buffer | undefined;
  done: number;
  /** From when on it is on disk for sure. */
  safe: number;
}

/** The file at some moment. */
export interface TrailState {
  readonly bytes: Buffer;
  /** What was over by then happened before; for a loss of power the earliest such time, else the latest. */
  readonly clock: number;
  /** Some of what was not flushed is missing. */
  readonly lossy: boolean;
}

export class WriteTrail {
  #running = false;
  #clock = 0;
  readonly #writes: TrailWrite[] = [];

  get length(): number {
    return this.#writes.length;
  }

  readonly drivers: BlockDrivers = {
    file: {
      ...blockDrivers.file,
      write: (node, offset, length, from, at, flags) =>
        this.#note(offset, Buffer.from(from.bytes.subarray(at, at + length)), () =>
          blockDrivers.file.write?.(node, offset, length, from, at, flags),
        ),
      writeZeroes: (node, offset, length, flags) =>
        this.#note(offset, Buffer.alloc(length), () =>
          blockDrivers.file.writeZeroes?.(node, offset, length, flags),
        ),
      discard: (node, offset, length) =>
        this.#note(offset, Buffer.alloc(length), () =>
          blockDrivers.file.discard?.(node, offset, length),
        ),
      truncate: (node, length, options) =>
        this.#note(length, undefined, () => blockDrivers.file.truncate?.(node, length, options)),
      flush: async (node) => {
        const before = this.tick();
        await blockDrivers.file.flush?.(node);
        const after = this.tick();
        for (const write of this.#writes) {
          if (write.done < before && write.safe > after) write.safe = after;
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

  /** The file after every prefix of what was written; and, as after a loss of power, with only some of what was not flushed. */
  *states(before: Buffer, next: () => number): Generator<TrailState> {
    for (let count = 0; count <= this.#writes.length; count++) {
      const all = this.#writes.slice(0, count);
      const clock = (this.#writes[count]?.begun ?? Number.POSITIVE_INFINITY) - 1;
      yield { bytes: replayed(before, all), clock, lossy: false };
      const now = all.at(-1)?.begun ?? 0;
      const isSafe = ({ safe }: TrailWrite): boolean => safe < now;
      // The most that may be missing is missing just before a flush.
      const beforeFlush = all.some((one) => one.safe > now && one.safe < clock);
      const times = beforeFlush ? 4 : Number(count % 4 === 0);
      for (let time = 0; time < times; time++) {
        const some = all.map((one) => isSafe(one) || next() < 0.5);
        yield { bytes: replayed(before, all, some), clock: now, lossy: true };
      }
    }
  }

  #note(
    offset: number,
    bytes: Buffer | undefined,
    write: () => MaybePromise<void>,
  ): MaybePromise<void> {
    if (!this.#running) return write();
    const never = Number.POSITIVE_INFINITY;
    const noted: TrailWrite = { begun: this.tick(), offset, bytes, done: never, safe: never };
    this.#writes.push(noted);
    const finish = (): void => {
      noted.done = this.tick();
    };
    const later = write();
    if (later !== undefined) return later.then(finish);
    finish();
  }
}

/** A write that is missing has made the file longer all the same: its length is the file system's own affair. */
function replayed(
  before: Buffer,
  writes: readonly TrailWrite[],
  isThere: readonly boolean[] = [],
): Buffer {
  const ends = writes.map(({ offset, bytes }) => offset + (bytes?.length ?? 0));
  const file = Buffer.alloc(ends.reduce((longest, end) => Math.max(longest, end), before.length));
  before.copy(file);
  let { length } = before;
  for (const [index, { offset, bytes }] of writes.entries()) {
    if (bytes === undefined) {
      file.fill(0, offset, length);
      length = offset;
      continue;
    }
    length = Math.max(length, offset + bytes.length);
    if (isThere[index] !== false) bytes.copy(file, offset);
  }
  return file.subarray(0, length);
}
