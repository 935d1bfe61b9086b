// A writer that is killed at any moment leaves a sound image with everything that was flushed. QCOW2_KILL_ROUNDS: how often.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openDisk, random } from '../helpers/qcow2-disk.ts';
import {
  checkImage,
  contentsByQemu,
  createImage,
  noQemuImg,
  qemuImg,
  rawFile,
  scratch,
} from '../helpers/qcow2-images.ts';
import { operations, sectorsOf, wrongSectors } from './qcow2-operations.ts';

const ROUNDS = Number(process.env['QCOW2_KILL_ROUNDS'] ?? 20);
const SIZE = 8 * 2 ** 20;
const writer = fileURLToPath(new URL('qcow2-writer.ts', import.meta.url));

const layouts = [
  'cluster_size=65536',
  'cluster_size=512,refcount_bits=64',
  'compat=0.10,cluster_size=4096',
  'extended_l2=on,cluster_size=16384',
  'cluster_size=4096,refcount_bits=2',
  'lazy_refcounts=on,cluster_size=4096',
];

describe.skipIf(noQemuImg !== undefined)('SIGKILL of a writer to qcow2', () => {
  it.each(Array.from({ length: ROUNDS }, (_, round) => round))(
    'leaves a sound image, round %i',
    async (round) => {
      const next = random(round + 1);
      const path = prepared(round);
      const flushed = await killedAfter(path, round, Math.floor(next() * 60), next() * 20);
      // Refcounts that were late are repaired by whoever opens the image to write to it.
      if (isDirty(path)) await (await openDisk(path)).close();
      const check = checkImage(path);
      expect([0, 3], check.text).toContain(check.status);
      const all = operations(round, SIZE);
      expect(wrongSectors(contentsByQemu(path), all, flushed).slice(0, 5)).toEqual([]);
    },
    60_000,
  );
});

function isDirty(path: string): boolean {
  const { 'dirty-flag': dirty } = JSON.parse(qemuImg('info', '--output=json', path)) as Record<
    string,
    unknown
  >;
  return dirty === true;
}

/** Every third image is full of compressed clusters that a snapshot has, too; all of them zeroes to the test. */
function prepared(round: number): string {
  const dir = scratch();
  const options = layouts[round % layouts.length];
  const path = `${dir}/image`;
  if (round % 3 !== 0) return createImage({ path, size: SIZE, ...(options && { options }) });
  const raw = rawFile(`${dir}/raw`, sectorsOf(SIZE, 0));
  qemuImg('convert', '-S', '0', '-O', 'qcow2', '-o', options ?? '', raw, path);
  qemuImg('snapshot', '-c', 'before', path);
  return path;
}

/** Kills the writer a little after its `flushes`th flush; answers how many requests it said were durable. */
async function killedAfter(
  path: string,
  seed: number,
  flushes: number,
  milliseconds: number,
): Promise<number> {
  const child = spawn(process.execPath, ['--import', 'tsx', writer, path, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  let durable = 0;
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, index] = line.split(' ');
    if (word === 'flushed') durable = Number(index);
    if (word === 'done') durable = Number.MAX_SAFE_INTEGER;
    if (++seen === flushes + 1) setTimeout(() => child.kill('SIGKILL'), milliseconds);
  }
  // A writer that could not start would prove nothing.
  expect(await ended).toEqual(durable === Number.MAX_SAFE_INTEGER ? [0, null] : [null, 'SIGKILL']);
  return durable;
}
