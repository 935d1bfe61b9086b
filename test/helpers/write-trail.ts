// What reaches an image file, for playing it back: the file as it would be had the writer been killed, or the power been lost,
// at any moment.

import type { BlockDrivers } from '../../src/block/block-graph.ts';
import { blockDrivers } from '../../src/block/drivers/index.ts';

interface TrailWrite {
  /** How many flushes came before. */
  readonly epoch: number;
  readonly offset: number;
  readonly bytes: Buffer;
}

export class WriteTrail {
  #running = false;
  #epoch = 0;
  readonly #writes: TrailWrite[] = [];

  get length(): number {
    return this.#writes.length;
  }

  readonly drivers: BlockDrivers = {
    file: {
      ...blockDrivers.file,
      write: (node, offset, length, from, at, flags) => {
        this.#note(offset, Buffer.from(from.bytes.subarray(at, at + length)));
        return blockDrivers.file.write?.(node, offset, length, from, at, flags);
      },
      discard: (node, offset, length) => {
        this.#note(offset, Buffer.alloc(length));
        return blockDrivers.file.discard?.(node, offset, length);
      },
      flush: async (node) => {
        await blockDrivers.file.flush?.(node);
        this.#epoch++;
      },
    },
  };

  begin(): void {
    this.#running = true;
  }

  /** The file after every prefix of what was written; and, as after a loss of power, with only some of what was not flushed. */
  *states(before: Buffer, next: () => number): Generator<Buffer> {
    for (let count = 0; count <= this.#writes.length; count++) {
      const all = this.#writes.slice(0, count);
      yield replayed(before, all);
      const last = all.at(-1)?.epoch;
      // The most that may be missing is missing just before a flush.
      const times = this.#writes[count]?.epoch === last ? Number(count % 4 === 0) : 4;
      for (let time = 0; time < times; time++) {
        yield replayed(
          before,
          all.filter((one) => one.epoch !== last || next() < 0.5),
        );
      }
    }
  }

  #note(offset: number, bytes: Buffer): void {
    if (this.#running) this.#writes.push({ epoch: this.#epoch, offset, bytes });
  }
}

function replayed(before: Buffer, writes: readonly TrailWrite[]): Buffer {
  const end = Math.max(before.length, ...writes.map(({ offset, bytes }) => offset + bytes.length));
  const file = Buffer.alloc(end);
  before.copy(file);
  for (const { offset, bytes } of writes) bytes.copy(file, offset);
  return file;
}
