// The writes of a load to a qcow2 image, played back to every moment: the image is sound, and has what was flushed. POWER_SEEDS:
// more seeds, with commas.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../src/block/block-driver.ts';
import { plainWords, SECTOR } from '../helpers/marked-words.ts';
import {
  bufferOf,
  dropSnapshot,
  type Opened,
  random,
  takeSnapshot,
} from '../helpers/qcow2-disk.ts';
import { examine } from '../helpers/qcow2-examine.ts';
import {
  checkImage,
  contentsByQemu,
  createImage,
  noQemuImg,
  openImage,
  qemuImg,
  rawFile,
  scratch,
} from '../helpers/qcow2-images.ts';
import { DATA_NODE, type TrailState, WriteTrail } from '../helpers/write-trail.ts';
import { Load, type SnapshotCommands, type Weights } from './qcow2-load.ts';

const KIB = 1024;
/** Only so many states of a load are looked at by qemu-img, too. */
const SAMPLE = 6;
/** Turns of the event loop for which a write is kept waiting. */
const MOST_TURNS = 4;
const LONG = 4000;
const L1_OFFSET = 40;
const REFCOUNT_TABLE_OFFSET = 48;
const seeds = [1, ...(process.env['POWER_SEEDS'] ?? '').split(',').filter(Boolean).map(Number)];

interface Scenario {
  readonly name: string;
  readonly options: string;
  readonly clusterSize: number;
  readonly size: number;
  readonly weights: Weights;
  readonly count?: number;
  /** The longest request, in clusters. */
  readonly mostClusters?: number;
  readonly longest?: number;
  readonly hasBacking?: boolean;
  readonly hasDataFile?: boolean;
  readonly compresses?: boolean;
  readonly overlaps?: boolean;
  /** The disk is full of data, and a snapshot has them, too. */
  readonly hasSnapshot?: boolean;
  /** So many bytes are written, and recorded by nobody, before. */
  readonly filled?: number;
  /** What lies somewhere else in the end, by the place of its offset in the header. */
  readonly moves?: number;
  readonly open?: Parameters<typeof openImage>[1];
}

const mixed = { write: 60, zero: 8, unmap: 8, discard: 8, flush: 8 };
const small = { 'l2-cache-size': 1024, 'refcount-cache-size': 2048, 'l2-cache-entry-size': 512 };
const passing = {
  'pass-discard-request': true,
  'pass-discard-snapshot': true,
  'pass-discard-other': true,
};

const scenarios: readonly Scenario[] = [
  {
    name: 'allocating writes',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 192 * KIB,
    weights: mixed,
  },
  {
    name: 'caches as small as they get',
    options: 'cluster_size=512,refcount_bits=32',
    clusterSize: 512,
    size: 96 * KIB,
    weights: mixed,
    open: small,
  },
  {
    name: 'copy-on-write over a backing file',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 192 * KIB,
    weights: mixed,
    hasBacking: true,
  },
  {
    name: 'version 2 over a backing file',
    options: 'compat=0.10,cluster_size=4096',
    clusterSize: 4096,
    size: 192 * KIB,
    weights: mixed,
    hasBacking: true,
  },
  {
    name: 'subclusters over a backing file',
    options: 'extended_l2=on,cluster_size=16384',
    clusterSize: 16384,
    size: 256 * KIB,
    weights: mixed,
    hasBacking: true,
  },
  {
    name: 'clusters of a snapshot',
    options: 'cluster_size=4096,refcount_bits=8',
    clusterSize: 4096,
    size: 128 * KIB,
    weights: mixed,
    hasSnapshot: true,
  },
  {
    name: 'an external data file over a backing file',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 128 * KIB,
    weights: mixed,
    hasBacking: true,
    hasDataFile: true,
  },
  {
    name: 'snapshots that come and go',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 96 * KIB,
    weights: { ...mixed, discard: 0, snapshot: 8 },
    count: 100,
    open: small,
  },
  {
    name: 'snapshots with compressed clusters',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 96 * KIB,
    weights: { compressed: 30, write: 15, unmap: 10, flush: 4, snapshot: 8 },
    open: passing,
    count: 80,
  },
  {
    name: 'discards that reach the file',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 96 * KIB,
    weights: { write: 40, unmap: 20, discard: 20, flush: 8 },
    open: passing,
  },
  {
    name: 'compressed clusters',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 128 * KIB,
    weights: { compressed: 40, write: 15, unmap: 10, discard: 10, flush: 8 },
  },
  {
    name: 'clusters compressed by zstd, and snapshots',
    options: 'cluster_size=4096,compression_type=zstd',
    clusterSize: 4096,
    size: 96 * KIB,
    weights: { compressed: 40, write: 15, unmap: 10, discard: 10, flush: 8, snapshot: 4 },
    open: passing,
    count: 70,
  },
  {
    name: 'compressed clusters with lazy refcounts',
    options: 'cluster_size=4096,lazy_refcounts=on',
    clusterSize: 4096,
    size: 128 * KIB,
    // Nothing that is copied, or written as it is: then tables are flushed, and the image is marked, for other reasons.
    weights: { compressed: 40, discard: 20, flush: 8 },
    compresses: true,
    count: 100,
  },
  {
    name: 'requests that overlap',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 32 * KIB,
    weights: { write: 50, unmap: 15, discard: 25, zero: 25, compressed: 10, flush: 20 },
    count: 400,
    overlaps: true,
  },
  {
    name: 'requests that overlap in subclusters',
    options: 'extended_l2=on,cluster_size=16384',
    clusterSize: 16384,
    size: 64 * KIB,
    weights: { write: 50, unmap: 15, discard: 25, zero: 25, compressed: 10, flush: 20 },
    hasBacking: true,
    count: 250,
    overlaps: true,
  },
  {
    name: 'longer and shorter',
    options: 'cluster_size=512',
    clusterSize: 512,
    size: 64 * KIB,
    weights: { ...mixed, resize: 12 },
    longest: 160 * KIB,
    count: 100,
    moves: L1_OFFSET,
  },
  {
    name: 'longer and shorter with many refcount blocks',
    options: 'cluster_size=512,refcount_bits=64',
    clusterSize: 512,
    size: 256 * KIB,
    weights: { write: 30, unmap: 5, flush: 10, resize: 20 },
    filled: 256 * KIB,
    mostClusters: 400,
    longest: 300 * KIB,
    count: 40,
  },
  {
    name: 'longer and shorter between snapshots',
    options: 'cluster_size=512,refcount_bits=64',
    clusterSize: 512,
    size: 128 * KIB,
    weights: { write: 30, flush: 5, resize: 20, snapshot: 15 },
    filled: 128 * KIB,
    mostClusters: 200,
    longest: 160 * KIB,
    count: 32,
  },
  {
    name: 'longer and shorter with an external data file',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 64 * KIB,
    weights: { ...mixed, resize: 12 },
    longest: 160 * KIB,
    hasBacking: true,
    hasDataFile: true,
    count: 100,
  },
  {
    name: 'longer and shorter over a backing file',
    options: 'cluster_size=4096',
    clusterSize: 4096,
    size: 64 * KIB,
    weights: { ...mixed, resize: 12 },
    longest: 160 * KIB,
    hasBacking: true,
    count: 100,
  },
  {
    name: 'a refcount table that grows',
    options: 'cluster_size=512,refcount_bits=64',
    clusterSize: 512,
    size: 3072 * KIB,
    weights: { write: 80, flush: 10 },
    // The table can count two MiB of clusters, those with tables included.
    filled: 1975 * KIB,
    count: 40,
    moves: REFCOUNT_TABLE_OFFSET,
  },
  {
    name: 'lazy refcounts over a backing file',
    options: 'cluster_size=4096,lazy_refcounts=on',
    clusterSize: 4096,
    size: 128 * KIB,
    weights: mixed,
    hasBacking: true,
  },
  {
    name: 'lazy refcounts',
    options: 'cluster_size=4096,lazy_refcounts=on',
    clusterSize: 4096,
    size: 128 * KIB,
    weights: mixed,
  },
];

interface Recorded {
  readonly trail: WriteTrail;
  readonly load: Load;
  readonly before: Buffer;
  readonly backing: Buffer | undefined;
  /** The external data file as it was. */
  readonly data: Buffer | undefined;
  readonly dir: string;
}

describe.skipIf(noQemuImg !== undefined)('every moment of a load on a qcow2 image', () => {
  it.each(scenarios.flatMap((scenario) => seeds.map((seed) => ({ ...scenario, seed }))))(
    'is sound: $name, seed $seed',
    async ({ seed, ...scenario }) => {
      const recorded = await record(scenario, seed);
      const { trail, load, before, backing, data, dir } = recorded;
      const every = Math.ceil(trail.length / SAMPLE);
      let count = 0;
      let last = before;
      for (const state of trail.states(before, random(seed + 1000), data)) {
        const besides = { backing, data: state.data };
        const { faults, disk, snapshots } = examine(state.bytes, besides);
        const where = `state ${count} at ${state.clock}${state.lossy ? ', power lost' : ''}`;
        expect([where, ...faults.slice(0, 5)]).toEqual([where]);
        expect([where, ...firstOf(load.wrong(disk, state), 5)]).toEqual([where]);
        for (const [name, content] of snapshots) {
          expect([where, ...firstOf(load.wrongSnapshot(name, content), 5)]).toEqual([where]);
        }
        if (count++ % every === 0) await expectSameByQemu(state, disk, dir);
        if (!state.lossy) last = state.bytes;
      }
      expect(count).toBeGreaterThan(50);
      const { moves } = scenario;
      if (moves !== undefined) expect(placeAt(last, moves)).not.toBe(placeAt(before, moves));
    },
    180_000,
  );

  it('would be found unsound where writes change places', async () => {
    const [scenario] = scenarios;
    if (scenario === undefined) throw new Error('No scenarios');
    const { trail, before } = await record(scenario, 1);
    const last = [...trail.states(before, random(1))].at(-1)?.bytes ?? before;
    const found = new Set<string>();
    for (let cluster = 0; cluster * 4096 < before.length; cluster++) {
      // What was there in the beginning comes back.
      const bytes = Buffer.from(last);
      before.copy(bytes, cluster * 4096, cluster * 4096, (cluster + 1) * 4096);
      for (const fault of examine(bytes).faults) found.add(fault.replaceAll(/\d+/g, 'N'));
    }
    expect([...found].toSorted()).toEqual(
      expect.arrayContaining(['cluster N: N uses, not N', 'cluster of N: wrong copied flag']),
    );
  });
});

async function record(scenario: Scenario, seed: number): Promise<Recorded> {
  const { clusterSize, size, weights, filled = 0 } = scenario;
  const { count = 160, mostClusters = 5, longest = size, open } = scenario;
  const dir = scratch();
  const path = `${dir}/image`;
  const full = numbered(0x40000000, longest);
  let backing: Buffer | undefined;
  let initial: Buffer = Buffer.alloc(longest);
  if (scenario.hasBacking === true) {
    backing = full;
    initial = full;
    const over = `backing_file=${rawFile(`${dir}/base`, full)},backing_fmt=raw,${scenario.options}`;
    const more = scenario.hasDataFile === true ? `,data_file=${dir}/data` : '';
    createImage({ path, size, options: over + more });
  } else if (scenario.hasSnapshot === true) {
    initial = full;
    const raw = rawFile(`${dir}/raw`, full);
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', scenario.options, raw, path);
    qemuImg('snapshot', '-c', 'before', path);
  } else {
    createImage({ path, size, options: scenario.options });
  }
  const turns = random(seed + 2000);
  // A few writes that overlap with others take their time.
  const trail = new WriteTrail(() =>
    Math.floor(scenario.overlaps === true ? turns() ** 6 * LONG : turns() * MOST_TURNS),
  );
  const file = { driver: 'file', filename: path, discard: 'unmap' } as const;
  const dataFile = {
    'data-file': { driver: 'file', filename: `${dir}/data`, 'node-name': DATA_NODE },
  } as const;
  const options = { file, ...open, ...(scenario.hasDataFile === true && dataFile) };
  const opened = await openImage(path, options, trail.drivers);
  const backend = resizable(opened);
  if (filled > 0) {
    await backend.write(0, filled, bufferOf(full.subarray(0, filled)), 0);
    full.copy(initial, 0, 0, filled);
  }
  await backend.flush();
  const before = readFileSync(path);
  const data = scenario.hasDataFile === true ? readFileSync(`${dir}/data`) : undefined;
  trail.begin();
  const load = new Load({
    backend,
    trail,
    next: random(seed),
    count,
    weights,
    clusterSize,
    mostClusters,
    longest,
    initial: valuesOf(initial),
    backing: valuesOf(backing ?? Buffer.alloc(0)),
    snapshots: snapshotsOf(opened),
    compresses: scenario.compresses === true,
    overlaps: scenario.overlaps === true,
  });
  await load.run();
  await backend.release();
  await opened.close();
  return { trail, load, before, backing, data, dir };
}

function snapshotsOf(opened: Opened): SnapshotCommands {
  return {
    take: (name) => takeSnapshot(opened, name),
    drop: (name) => dropSnapshot(opened, name),
  };
}

function resizable({ graph }: Opened): ReturnType<Opened['graph']['backend']> {
  return graph.backend(graph.find(undefined, 'image'), {
    perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
    shared: PERM_ALL,
  });
}

/** qemu-img agrees with our own examination. Refcounts that are late are put right by who opens the image to write to it. */
async function expectSameByQemu(state: TrailState, disk: Buffer, dir: string): Promise<void> {
  const { bytes, data } = state;
  const path = `${dir}/state`;
  writeFileSync(path, bytes);
  // The image names it.
  if (data !== undefined) writeFileSync(`${dir}/data`, data);
  const isDirty = bytes.readUInt32BE(4) >= 3 && (bytes.readBigUInt64BE(72) & 1n) !== 0n;
  if (isDirty) await (await openImage(path)).close();
  const check = checkImage(path);
  expect([0, 3], check.text).toContain(check.status);
  expect(contentsByQemu(path).equals(disk)).toBe(true);
}

/** Every sector has a number of its own. */
function numbered(first: number, length: number): Buffer {
  const sectors = Array.from({ length: length / SECTOR }, (_, index) =>
    plainWords(SECTOR, first + index),
  );
  return Buffer.concat(sectors);
}

function valuesOf(disk: Buffer): Uint32Array {
  return Uint32Array.from({ length: disk.length / SECTOR }, (_, sector) =>
    disk.readUInt32LE(sector * SECTOR),
  );
}

function placeAt(image: Buffer, offset: number): bigint {
  return image.readBigUInt64BE(offset);
}

function firstOf(texts: Iterable<string>, most: number): string[] {
  const first: string[] = [];
  for (const text of texts) {
    if (first.push(text) >= most) break;
  }
  return first;
}
