// How long and from which seed the fuzz tests run: FUZZ_SECONDS for each file, and FUZZ_SEED. The suite tries the same inputs
// each time, as many as there is time for; `make fuzz` looks for new ones.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';

export const seconds = Number(process.env['FUZZ_SECONDS'] ?? 10);
export const seed = Number(process.env['FUZZ_SEED'] ?? 1);

const RUNS_PER_ROUND = 10;

/** Checks a property for this share of a file's time, and at least once; a failure tells its seed. */
export async function checkFor<T>(
  share: number,
  property: fc.IAsyncProperty<T> | fc.IProperty<T>,
): Promise<void> {
  const end = Date.now() + seconds * share * 1000;
  for (let round = 0; round === 0 || Date.now() < end; round++) {
    // Rounds instead of fast-check's own time limit, which would leave a run going in the background.
    await fc.assert(property as fc.IAsyncProperty<T>, {
      seed: (seed + round) | 0,
      numRuns: RUNS_PER_ROUND,
      endOnFailure: true,
    });
  }
}

export type CorpusName =
  | 'qmp'
  | 'nbd-options'
  | 'nbd-requests'
  | 'option-text'
  | 'vhost-user-messages'
  | 'vhost-user-rings';

const corpusPath = join(import.meta.dirname, 'corpus.json');

/** Inputs that once failed, or that are worth trying each time; base64. */
export function corpus(name: CorpusName): readonly Buffer[] {
  return (readCorpus()[name] ?? []).map((text) => Buffer.from(text, 'base64'));
}

/** Keeps a failing input for every later run, and says where it came from. */
export function keep(name: CorpusName, input: Uint8Array): string {
  const all = readCorpus();
  const text = Buffer.from(input).toString('base64');
  const entries = all[name] ?? [];
  if (!entries.includes(text)) {
    const next = { ...all, [name]: [...entries, text] };
    writeFileSync(corpusPath, `${JSON.stringify(next, null, 2)}\n`);
  }
  return `seed ${seed}; input kept in test/fuzz/corpus.json: ${JSON.stringify(Buffer.from(input).toString('latin1').slice(0, 500))}`;
}

function readCorpus(): Partial<Record<CorpusName, readonly string[]>> {
  if (!existsSync(corpusPath)) return {};
  return JSON.parse(readFileSync(corpusPath, 'utf8')) as Partial<Record<CorpusName, string[]>>;
}

/** Numbers between 0 and 1 from a seed, the same each time (mulberry32). */
export function numbersFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const interesting = [
  0, 1, 0x7f, 0x80, 0xff, 0x22, 0x27, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x2c, 0x3a, 0x0a,
];

/** A changed copy of `input`: bytes flipped, cut, doubled, replaced, or spliced with `other`. */
export function mutated(input: Uint8Array, other: Uint8Array, next: () => number): Buffer {
  let bytes: Buffer = Buffer.from(input);
  const rounds = 1 + Math.floor(next() * 6);
  for (let round = 0; round < rounds; round++) {
    const at = Math.floor(next() * (bytes.length + 1));
    const length = Math.floor(next() ** 3 * 40) + 1;
    const byte = interesting[Math.floor(next() * interesting.length)] ?? 0;
    switch (Math.floor(next() * 8)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(next() * 8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = byte;
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(length, byte),
          bytes.subarray(at),
        ]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(0, at - length))]);
        break;
      case 5:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          other.subarray(Math.floor(next() * other.length)),
        ]);
        break;
      case 6:
        bytes = bytes.subarray(0, at);
        break;
      default:
        if (at + 4 <= bytes.length) bytes.writeUInt32BE(Math.floor(next() * 2 ** 32), at);
    }
  }
  return bytes.subarray(0, 1 << 16);
}
