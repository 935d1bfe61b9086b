// What is asked of a disk until its writer is killed: the same for the same seed, for any writer.

import { SECTOR } from '../helpers/marked-words.ts';
import { random } from '../helpers/qcow2-disk.ts';

const COUNT = 2000;
const LONGEST = 400;
/** Whole clusters in every layout. */
const COMPRESSED = 65536;
const PARALLEL = 8;
const MOST_SNAPSHOTS = 2;

export type Kind =
  | 'write'
  | 'zero'
  | 'unmap'
  | 'discard'
  | 'compressed'
  | 'shrink'
  | 'take'
  | 'drop'
  | 'flush';

export interface Operation {
  /**
   * `compressed` writes whole clusters after they were given up; `shrink` cuts the disk, and makes it as long as before; `take`
   * and `drop` are of internal snapshots.
   */
  readonly kind: Kind;
  readonly offset: number;
  readonly length: number;
  /** What every word that is written says; 0 for zeroes. */
  readonly mark: number;
  /** Of a snapshot. */
  readonly name: string;
  /** It overlaps one of those just before it. */
  readonly waits: boolean;
}

export interface Plan {
  readonly path: string;
  readonly seed: number;
  readonly size: number;
  /** How many writers were killed before. */
  readonly life: number;
  /** Snapshots that are there. */
  readonly snapshots: readonly string[];
  /** Written instead. */
  readonly without: readonly Kind[];
}

/** Who carries operations out. What is refused for a good reason counts as done. */
export interface Target {
  /** Several at the same time. */
  request(operation: Operation): Promise<void>;
  flush(): Promise<void>;
  /** Makes the disk `length` bytes long, and as long as before. */
  shrink(length: number): Promise<void>;
  take(snapshot: string): Promise<void>;
  drop(snapshot: string): Promise<void>;
}

export function operations({ seed, size, life, snapshots, without }: Plan): Operation[] {
  const next = random(seed * 1000 + life);
  const sectors = Math.floor(size / SECTOR);
  const names = [...snapshots];
  const all: Operation[] = [];
  for (let index = 0; index < COUNT; index++) {
    let kind = kindOf(next());
    if (kind === 'take' && names.length >= MOST_SNAPSHOTS) kind = 'drop';
    if (without.includes(kind)) kind = 'write';
    let name = '';
    if (kind === 'take') names.push((name = `${life}-${index}`));
    if (kind === 'drop') name = names.shift() ?? '';
    let length = (1 + Math.floor(next() ** 4 * LONGEST)) * SECTOR;
    let offset = Math.floor(next() * Math.max(1, sectors - length / SECTOR)) * SECTOR;
    if (kind === 'compressed') {
      length = COMPRESSED;
      offset = Math.floor(offset / COMPRESSED) * COMPRESSED;
    }
    if (kind === 'shrink') {
      length = Math.ceil((size - offset) / 4 / COMPRESSED) * COMPRESSED;
      offset = size - length;
    }
    const recent = all.slice(-PARALLEL);
    const mark = kind === 'write' || kind === 'compressed' ? life * COUNT + index + 1 : 0;
    const waits = recent.some(
      (one) => one.offset < offset + length && offset < one.offset + one.length,
    );
    all.push({ kind, offset, length, mark, name, waits });
  }
  return all;
}

function kindOf(chance: number): Kind {
  if (chance < 0.58) return 'write';
  if (chance < 0.67) return 'compressed';
  if (chance < 0.68) return 'shrink';
  if (chance < 0.7) return 'take';
  if (chance < 0.78) return 'zero';
  if (chance < 0.86) return 'unmap';
  return chance < 0.93 ? 'discard' : 'flush';
}

/** Has a target carry them out; tells the index of each flush once all before it is durable. */
export async function carryOut(
  all: readonly Operation[],
  target: Target,
  flushed: (index: number) => void,
): Promise<void> {
  let running: Promise<void>[] = [];
  const settle = async (): Promise<void> => {
    await Promise.all(running);
    running = [];
  };
  for (const [index, operation] of all.entries()) {
    const { kind, offset, name, waits } = operation;
    const alone = kind === 'flush' || kind === 'shrink' || kind === 'take' || kind === 'drop';
    // Requests at the same time must not overlap: which one wins would be anybody's guess.
    if (alone || waits || running.length >= PARALLEL) await settle();
    if (kind === 'shrink') await target.shrink(offset);
    else if (kind === 'take') await target.take(name);
    else if (kind === 'drop') await target.drop(name);
    else if (kind !== 'flush') running.push(target.request(operation));
    else {
      await target.flush();
      flushed(index);
    }
  }
  await settle();
}
