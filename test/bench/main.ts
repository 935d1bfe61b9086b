// `make bench`: our daemon, the reference and nbdkit side by side in interleaved rounds; medians, ratios and targets as a
// table and as JSON in results/. node --import tsx test/bench/main.ts [--quick] [--row=TEXT]...

import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { missing } from '../helpers/reference.ts';
import { settle, startContestants } from './contestants.ts';
import { type Plan, type Row, rows, type StartContestant, startMilliseconds } from './rows.ts';
import { formatTable, type Measurements, verdicts } from './table.ts';

const quick = process.argv.includes('--quick');
const only = process.argv
  .filter((argument) => argument.startsWith('--row='))
  .map((argument) => argument.slice('--row='.length));
const rounds = quick ? 1 : 5;
const imageBytes = (quick ? 128 : 256) * 2 ** 20;
const startRow: Row = {
  name: 'start to greeting on stdio',
  unit: 'ms',
  better: 'less',
  targets: [{ against: 'node -e 0', ratio: 1.6 }],
  takesPart: () => false,
  measure: async () => 0,
};

async function main(): Promise<void> {
  const absent = missing('fio', 'nbdcopy', 'qemu-storage-daemon', 'nbdkit', 'gcc');
  if (absent !== undefined) console.log(`Left out: ${absent}`);
  const directory = mkdtempSync(join(tmpdir(), 'qsd-bench-'));
  const image = join(directory, 'image');
  writeRandom(image, imageBytes);
  const plan: Plan = { seconds: quick ? 1 : 2, image, imageBytes };
  const measurements: Measurements = new Map();
  const note = (row: string, who: string, value: number): void => {
    const perContestant = measurements.get(row) ?? new Map<string, number[]>();
    measurements.set(row, perContestant);
    perContestant.set(who, [...(perContestant.get(who) ?? []), value]);
  };
  const contestants = await startContestants(directory, image);
  const chosen = rows.filter(isChosen);
  try {
    for (let round = 0; round < rounds; round++) {
      for (const row of chosen) {
        // Another order each round: nobody always goes first.
        for (let at = 0; at < contestants.length; at++) {
          const contestant = contestants[(at + round) % contestants.length];
          if (contestant === undefined || !row.takesPart(contestant)) continue;
          settle(directory);
          const value = await row.measure(contestant, plan, (other, result) => {
            note(other, contestant.name, result);
          });
          note(row.name, contestant.name, value);
        }
        process.stderr.write(`round ${round + 1} of ${rounds}: ${row.name}\n`);
      }
    }
    if (isChosen(startRow)) await measureStarts(note);
  } finally {
    await Promise.all(contestants.map((contestant) => contestant.stop()));
    rmSync(directory, { recursive: true, force: true });
  }
  report([...chosen, startRow], measurements);
}

/** A row is asked for by its name, or by a part of it that is no other row's whole name. */
function isChosen({ name }: Row): boolean {
  const fits = (text: string): boolean =>
    rows.some((row) => row.name === text) ? name === text : name.includes(text);
  return only.length === 0 || only.some(fits);
}

async function measureStarts(
  note: (row: string, who: string, value: number) => void,
): Promise<void> {
  const who: readonly StartContestant[] = ['ours', 'reference', 'node -e 0'];
  for (let round = 0; round < (quick ? 5 : 20); round++) {
    for (const contestant of who)
      note(startRow.name, contestant, await startMilliseconds(contestant));
  }
}

function report(measured: readonly Row[], measurements: Measurements): void {
  const results = verdicts(measured, measurements);
  console.log(formatTable(results));
  const folder = join(import.meta.dirname, 'results');
  mkdirSync(folder, { recursive: true });
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-');
  const path = join(folder, `${stamp}.json`);
  const [cpu] = cpus();
  const machine = {
    cpus: cpus().length,
    model: cpu?.model,
    kernel: release(),
    node: process.version,
  };
  writeFileSync(path, `${JSON.stringify({ quick, rounds, machine, results }, null, 2)}\n`);
  console.log(`\n${path}`);
  const missed = results.filter((result) => result.met === false).length;
  console.log(missed === 0 ? 'Every target is met.' : `${missed} rows miss a target.`);
}

/** Data that nothing compresses, deduplicates or finds to be zero. */
function writeRandom(path: string, length: number): void {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(2 ** 20);
  for (let at = 0; at < length; at += block.length) writeSync(fd, randomFillSync(block));
  closeSync(fd);
}

await main();
