// What an image may hold whose writer was killed: all that was flushed, and of what came after it any part.

import { marksOf } from '../helpers/marked-words.ts';
import type { Examined } from '../helpers/qcow2-examine.ts';
import type { Operation } from './qcow2-operations.ts';

/** Numbers of the words of disks. */
export interface Survivor {
  readonly words: Uint32Array;
  readonly snapshots: ReadonlyMap<string, Uint32Array>;
}

export function survivorOf({ disk, snapshots }: Examined): Survivor {
  return {
    words: marksOf(disk),
    snapshots: new Map([...snapshots].map(([name, content]) => [name, marksOf(content)])),
  };
}

export interface Killed {
  readonly before: Survivor;
  readonly all: readonly Operation[];
  /** The index of the last flush that was over for sure; -1 for none. */
  readonly flushed: number;
  /** What shines through where nothing is. */
  readonly backing: Uint32Array;
}

export function* wrongIn({ words, snapshots }: Survivor, killed: Killed): Generator<string> {
  const { before, all, flushed, backing } = killed;
  // One flush more may have been over.
  const next = all.findIndex(({ kind }, index) => index > flushed && kind === 'flush');
  const later = all.slice(flushed + 1, next < 0 ? undefined : next);
  const expected = before.words.slice();
  const kept = new Map(before.snapshots);
  for (const operation of all.slice(0, flushed + 1)) apply(operation, expected, kept);
  const full = expected.slice();
  for (const operation of later) apply(operation, full, kept);

  const cut = words.length * 4;
  const isCut = later.some(({ kind, offset }) => kind === 'shrink' && offset === cut);
  if (words.length !== expected.length && !isCut) yield `length ${cut}, not ${expected.length * 4}`;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? 0;
    if (word === expected[index] || mayBe(word, index, later, backing)) continue;
    yield `word ${index}: ${word}, not ${expected[index]}`;
  }
  for (const [name, content] of snapshots) yield* wrongInSnapshot(name, content, kept.get(name));
}

/** Nothing of a snapshot ever changes, whoever is killed. */
function* wrongInSnapshot(
  name: string,
  content: Uint32Array,
  expected: Uint32Array | undefined,
): Generator<string> {
  if (expected === undefined) {
    yield `snapshot ${name} is nobody's`;
    return;
  }
  const index = content.findIndex((word, at) => word !== expected[at]);
  if (index >= 0) yield `snapshot ${name}: ${content[index]}, not ${expected[index]}, at ${index}`;
}

function apply(operation: Operation, words: Uint32Array, kept: Map<string, Uint32Array>): void {
  const { kind, offset, length, mark, name } = operation;
  if (kind === 'take') kept.set(name, words.slice());
  else if (kind !== 'drop' && kind !== 'flush') words.fill(mark, offset / 4, (offset + length) / 4);
}

function mayBe(
  word: number,
  index: number,
  later: readonly Operation[],
  backing: Uint32Array,
): boolean {
  return later.some(({ kind, offset, length, mark }) => {
    if (index * 4 < offset || index * 4 >= offset + length) return false;
    if (word === mark) return kind !== 'take' && kind !== 'drop';
    // It is given up first.
    if (kind === 'compressed') return word === 0;
    return kind === 'shrink' && word === (backing[index] ?? 0);
  });
}
