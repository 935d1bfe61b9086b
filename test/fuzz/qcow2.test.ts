// Images that lie: real ones with bytes changed where they matter. Whatever happens is an error of ours, soon, in little memory.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { IoError } from '../../src/base/errors.ts';
import {
  deleteInternalSnapshot,
  describedSnapshots,
  InternalSnapshotAction,
} from '../../src/block/snapshot-internal.ts';
import { runTransaction } from '../../src/block/transaction.ts';
import { QmpError } from '../../src/qapi/errors.ts';
import { allocate } from '../../src/sys/memory.ts';
import { type Opened, random, someContent } from '../helpers/qcow2-disk.ts';
import {
  createImage,
  noQemuImg,
  openImage,
  qemuImg,
  rawFile,
  scratch,
} from '../helpers/qcow2-images.ts';

const LENGTH = 2 ** 20;
const ROUNDS = Number(process.env['QCOW2_FUZZ_ROUNDS'] ?? 60);
/** What an open image and a few requests may take, with the default caches. */
const MOST_MEMORY = 300 * 2 ** 20;

const kinds = [
  'cluster_size=4096',
  'compat=0.10',
  'extended_l2=on,cluster_size=16384',
  'cluster_size=512,refcount_bits=2',
];

describe.skipIf(noQemuImg !== undefined)('an image that lies', () => {
  it.each(kinds.map((options, seed) => ({ options, seed })))(
    'is refused or contained, from $options',
    async ({ options, seed }) => {
      const dir = scratch();
      const raw = rawFile(`${dir}/raw`, someContent(seed, LENGTH));
      const path = `${dir}/image`;
      const compressed = seed % 2 === 0 ? ['-c'] : [];
      qemuImg('convert', ...compressed, '-O', 'qcow2', '-o', options, raw, path);
      qemuImg('snapshot', '-c', 'one', path);
      const image = readFileSync(path);
      const next = random(100 + seed);
      const before = process.memoryUsage().rss;
      for (let round = 0; round < ROUNDS; round++) {
        writeFileSync(path, mutated(image, next));
        await tryEverything(path, next);
      }
      expect(process.memoryUsage().rss - before).toBeLessThan(MOST_MEMORY);
    },
    120_000,
  );

  it('is not written where its own tables are', async () => {
    const path = createImage({ path: `${scratch()}/image`, size: LENGTH });
    const image = readFileSync(path);
    const refcountTable = Number(image.readBigUInt64BE(48));
    const block = Number(image.readBigUInt64BE(refcountTable));
    // Every cluster is free, the header's too.
    image.fill(0, block, block + 65536);
    writeFileSync(path, image);
    const { backend } = await openImage(path);
    const data = allocate(65536);
    await expect(async () => backend.write(0, 65536, data, 0)).rejects.toThrow(IoError);
    // It is not used any more, and says so the next time.
    await expect(async () => backend.read(0, 512, data, 0)).rejects.toThrow('No medium found');
  });
});

describe.skipIf(noQemuImg !== undefined)(
  'headers are refused with the texts of the reference',
  () => {
    const cases: readonly [string, (header: Buffer) => void, string][] = [
      ['magic', (header) => header.writeUInt32BE(1, 0), 'Image is not in qcow2 format'],
      ['version', (header) => header.writeUInt32BE(9, 4), 'Unsupported qcow2 version 9'],
      ['cluster size', (header) => header.writeUInt32BE(22, 20), 'Unsupported cluster size: 2^22'],
      [
        'incompatible features',
        (header) => header.writeBigUInt64BE(1n << 63n, 72),
        'Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000',
      ],
      [
        'corrupt',
        (header) => header.writeBigUInt64BE(2n, 72),
        'qcow2: Image is corrupt; cannot be opened read/write',
      ],
      ['header length', (header) => header.writeUInt32BE(72, 100), 'qcow2 header too short'],
      [
        'long header',
        (header) => header.writeUInt32BE(2 ** 20, 100),
        'qcow2 header exceeds cluster size',
      ],
      ['L1 size', (header) => header.writeUInt32BE(2 ** 30, 36), 'Active L1 table too large'],
      ['no L1', (header) => header.writeUInt32BE(0, 36), 'L1 table is too small'],
      ['L1 offset', (header) => header.writeBigUInt64BE(77n, 40), 'Active L1 table offset invalid'],
      [
        'refcount table',
        (header) => header.writeUInt32BE(0, 56),
        'Image does not contain a reference count table',
      ],
      [
        'refcount width',
        (header) => header.writeUInt32BE(7, 96),
        'Reference count entry width too large; may not exceed 64 bits',
      ],
      ['snapshots', (header) => header.writeUInt32BE(2 ** 31, 60), 'Snapshot table too large'],
      [
        'compression type',
        (header) => header.writeUInt8(7, 104),
        'qcow2: unknown compression type: 7',
      ],
    ];
    it.each(cases)('%s', async (_what, change, text) => {
      const path = createImage({ path: `${scratch()}/image`, size: LENGTH });
      const image = readFileSync(path);
      change(image);
      writeFileSync(path, image);
      await expect(openImage(path)).rejects.toThrow(text);
    });
  },
);

/** Some bytes or whole words changed: in the header, or anywhere in the tables. */
function mutated(image: Buffer, next: () => number): Buffer {
  const copy = Buffer.from(image);
  const tables = [0, 40, 48, 64].map((at) =>
    at === 0 ? 0 : Number(image.readBigUInt64BE(at) % BigInt(image.length)),
  );
  for (let times = 1 + Math.floor(next() * 4); times > 0; times--) {
    const table = tables[Math.floor(next() * tables.length)] ?? 0;
    const span = table === 0 ? 112 : 256;
    const at = Math.min(copy.length - 8, table + Math.floor((next() * span) / 8) * 8);
    const kind = next();
    if (kind < 0.3) copy.writeUInt8(Math.floor(next() * 256), at + Math.floor(next() * 8));
    else if (kind < 0.5) copy.writeUInt32BE(Math.floor(next() * 2 ** 32), at);
    else if (kind < 0.7) copy.writeBigUInt64BE(BigInt(Math.floor(next() * 2 ** 32)) << 32n, at);
    else if (kind < 0.85)
      copy.writeBigUInt64BE(copy.readBigUInt64BE(at) ^ (1n << BigInt(Math.floor(next() * 64))), at);
    else copy.writeBigUInt64BE(BigInt(Math.floor(next() * 40)) * 4096n, at);
  }
  return copy;
}

async function tryEverything(path: string, next: () => number): Promise<void> {
  const buffer = allocate(65536);
  await ours(async () => {
    const opened = await openImage(path, { 'read-only': next() < 0.3, backing: null });
    const { backend } = opened;
    try {
      const end = Math.min(backend.length, LENGTH);
      const place = (): number => Math.floor(next() * Math.max(1, end - 4096));
      const requests = end < 4096 ? 0 : 12;
      for (let times = 0; times < requests; times++) {
        const kind = next();
        const length = Math.min(end, 4096);
        await ours(async () => {
          const offset = place();
          if (kind < 0.4) await backend.read(offset, length, buffer, 0);
          else if (backend.readOnly) await backend.blockStatus(offset, length);
          else if (kind < 0.7) await backend.write(offset, length, buffer, 0);
          else if (kind < 0.8) await backend.writeZeroes(offset, length);
          else if (kind < 0.9) await backend.discard(offset, length);
          else await backend.flush();
        });
      }
      if (!backend.readOnly && next() < 0.5) await trySnapshots(opened);
    } finally {
      await opened.close();
    }
  });
}

async function trySnapshots({ graph, backend }: Opened): Promise<void> {
  const device = 'image';
  const take = (name: string): Promise<void> =>
    graph.change((access) =>
      runTransaction([new InternalSnapshotAction(access, { device, name })]),
    );
  await ours(() => take('fuzz'));
  const named = describedSnapshots(backend.node).map(({ name }) => name);
  for (const name of ['fuzz', ...named.slice(0, 3)]) {
    await ours(async () => {
      await graph.change((access) => deleteInternalSnapshot(access, { device, name }));
    });
  }
}

async function ours(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof IoError || error instanceof QmpError)) throw error;
  }
}
