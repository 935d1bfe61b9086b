// Writes that are under way: what gives up or takes their clusters waits for them.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
  WRITE_COMPRESSED,
} from '../../../../../src/block/block-driver.ts';
import type { BlockDrivers } from '../../../../../src/block/block-graph.ts';
import { blockDrivers } from '../../../../../src/block/drivers/index.ts';
import type { BlockdevOptionsQcow2 } from '../../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { bufferOf, type Opened, openDisk } from '../../../../helpers/qcow2-disk.ts';
import { smallQcow2 } from '../../../../helpers/small-qcow2.ts';
import { testGraph } from '../../graph-fixture.ts';
import { recordedImage } from './recorded.ts';

const CLUSTER = 512;
/** Where the L2 table of smallQcow2() is. */
const SMALL_L2_AT = 4 * 65536;
/** Turns of the event loop in which whatever does not wait has long been done. */
const LONG = 2000;
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A file whose next write begins when `release` is called. */
class HeldFile {
  /** Where it was written to, and when it was flushed. */
  readonly log: (number | 'flush')[] = [];
  #held: Promise<void> | undefined = undefined;
  #begun = (): void => {};

  readonly drivers: BlockDrivers = {
    file: {
      ...blockDrivers.file,
      write: (node, offset, length, from, at, flags) => {
        const write = () => {
          this.log.push(offset);
          return blockDrivers.file.write?.(node, offset, length, from, at, flags);
        };
        const held = this.#held;
        this.#held = undefined;
        if (held === undefined) return write();
        this.#begun();
        return held.then(write);
      },
      flush: (node) => {
        this.log.push('flush');
        return blockDrivers.file.flush?.(node);
      },
    },
  };

  holdNext(): { readonly begun: Promise<void>; readonly release: () => void } {
    let release = (): void => {};
    this.#held = new Promise((resolve) => {
      release = resolve;
    });
    const begun = new Promise<void>((resolve) => {
      this.#begun = resolve;
    });
    return { begun, release };
  }
}

async function opened(
  file: HeldFile,
  image = recordedImage(),
  options: Partial<BlockdevOptionsQcow2> = {},
): Promise<Opened> {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'image'), image);
  const disk = await openDisk(join(directory, 'image'), options, file.drivers);
  cleanups.push(() => disk.close());
  return disk;
}

/** A disk whose first cluster is zeroes, in a raw data file whose next zeroes are made when `release` is called. */
async function openedRaw() {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  const gate = { held: undefined as Promise<void> | undefined, begun: (): void => {} };
  const drivers: BlockDrivers = {
    file: {
      ...blockDrivers.file,
      async writeZeroes(node, offset, length, flags) {
        const { held } = gate;
        gate.held = undefined;
        if (held !== undefined) gate.begun();
        await held;
        await blockDrivers.file.writeZeroes?.(node, offset, length, flags);
      },
    },
  };
  const graph = testGraph(undefined, { drivers });
  for (const name of ['image', 'data']) {
    const filename = join(directory, name);
    await graph.imageMaker({ driver: 'file', filename, size: 0 })();
    await graph.add({ driver: 'file', filename, 'node-name': name });
  }
  const names = { file: 'image', 'data-file': 'data' };
  const made = { ...names, driver: 'qcow2', 'data-file-raw': true, size: 2 ** 20 } as const;
  await graph.imageMaker(made)();
  const node = await graph.add({ ...names, driver: 'qcow2', 'node-name': 'disk' });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  const backend = graph.backend(node, { perm, shared: PERM_ALL });
  cleanups.push(async () => {
    await backend.release();
    await graph.close();
  });
  await backend.writeZeroes(0, 65536);
  const hold = (): { readonly begun: Promise<void>; readonly release: () => void } => {
    let release = (): void => {};
    gate.held = new Promise((resolve) => {
      release = resolve;
    });
    const begun = new Promise<void>((resolve) => {
      gate.begun = resolve;
    });
    return { begun, release };
  };
  return { backend, hold };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

const cluster = (byte: number) => bufferOf(Buffer.alloc(CLUSTER, byte));

describe('a write that is under way', () => {
  it('still has its cluster when that is given up meanwhile', async () => {
    const file = new HeldFile();
    const { backend } = await opened(file);
    await backend.write(0, CLUSTER, cluster(1), 0);
    await backend.flush();
    const { begun, release } = file.holdNext();
    const late = backend.write(0, CLUSTER, cluster(2), 0);
    await begun;
    const discarded = backend.discard(0, CLUSTER);
    const others = (async () => {
      await Promise.race([discarded, turns(LONG)]);
      await backend.flush();
      for (let at = 4 * CLUSTER; at < 8 * CLUSTER; at += CLUSTER) {
        await backend.write(at + 4096, CLUSTER, cluster(3), 0);
      }
    })();
    await Promise.race([others, turns(2 * LONG)]);
    release();
    await Promise.all([late, discarded, others]);
    const found = allocate(4 * CLUSTER);
    await backend.read(4096 + 4 * CLUSTER, 4 * CLUSTER, found, 0);
    expect(found.bytes.equals(Buffer.alloc(4 * CLUSTER, 3))).toBe(true);
  });

  it('is waited for by a compressed one, which then finds data', async () => {
    const file = new HeldFile();
    const { backend } = await opened(file);
    const { begun, release } = file.holdNext();
    const first = backend.write(12288, CLUSTER, cluster(1), 0, WRITE_COMPRESSED);
    await begun;
    const second = backend.write(12288, CLUSTER, cluster(2), 0, WRITE_COMPRESSED);
    const refused = expect(second).rejects.toThrow('Input/output error');
    await turns(LONG);
    release();
    await first;
    await refused;
    const found = allocate(CLUSTER);
    await backend.read(12288, CLUSTER, found, 0);
    expect(found.bytes.equals(Buffer.alloc(CLUSTER, 1))).toBe(true);
  });

  it('is not lost when what lies beside it becomes zeroes', async () => {
    const { backend, hold } = await openedRaw();
    const zeroes = hold();
    const late = backend.writeZeroes(32768, 512);
    await Promise.race([zeroes.begun, turns(LONG)]);
    const write = backend.write(0, 512, cluster(7), 0);
    await Promise.race([write, turns(LONG)]);
    zeroes.release();
    await Promise.all([late, write]);
    const found = allocate(512);
    await backend.read(0, 512, found, 0);
    expect(found.bytes.equals(Buffer.alloc(512, 7))).toBe(true);
  });

  it('has what it copied on disk before its table is, whatever is flushed before it ends', async () => {
    const file = new HeldFile();
    // Refcounts, which are flushed with what is copied, do not count.
    const { backend } = await opened(file, smallQcow2(), {
      'lazy-refcounts': true,
      backing: { driver: 'null-co', size: 2 ** 20 },
    });
    const data = bufferOf(Buffer.alloc(65536, 1));
    await backend.write(65536, 65536, data, 0);
    const { begun, release } = file.holdNext();
    const late = backend.write(512, 512, data, 0);
    await begun;
    await backend.write(131072, 65536, data, 0);
    await backend.flush();
    file.log.length = 0;
    release();
    await late;
    await backend.flush();
    expect(file.log).toEqual([expect.any(Number), 'flush', SMALL_L2_AT, 'flush']);
  });
});
