// The requests that qcow2-writer.ts makes, the same for the same seed, and what an image may hold after some of them.

import { random } from '../helpers/qcow2-disk.ts';

export const SECTOR = 512;
const COUNT = 6000;
const LONGEST = 400;
/** Whole clusters in every layout. */
const COMPRESSED = 65536;
const PARALLEL = 8;

export interface Operation {
  /** `compressed` writes whole clusters after they were given up; `shrink` cuts the disk, and makes it as long as before. */
  readonly kind: 'write' | 'zero' | 'unmap' | 'discard' | 'compressed' | 'shrink' | 'flush';
  readonly offset: number;
  readonly length: number;
  /** What is in the first bytes of every sector that is written. */
  readonly value: number;
  /** It overlaps one of those just before it. */
  readonly waits: boolean;
}

export function operations(seed: number, size: number): Operation[] {
  const next = random(seed);
  const sectors = Math.floor(size / SECTOR);
  const all: Operation[] = [];
  for (let index = 0; index < COUNT; index++) {
    const kind = kindOf(next());
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
    all.push({
      kind,
      offset,
      length,
      value: index + 1,
      waits: recent.some((one) => one.offset < offset + length && offset < one.offset + one.length),
    });
  }
  return all;
}

function kindOf(chance: number): Operation['kind'] {
  if (chance < 0.6) return 'write';
  if (chance < 0.69) return 'compressed';
  if (chance < 0.7) return 'shrink';
  if (chance < 0.78) return 'zero';
  if (chance < 0.86) return 'unmap';
  return chance < 0.94 ? 'discard' : 'flush';
}

export function sectorsOf(length: number, value: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(value, at);
  return bytes;
}

/** What is wrong with a disk on which all before `flushed` is durable, and anything after it may have been done. */
export function wrongSectors(
  found: Buffer,
  all: readonly Operation[],
  flushed: number,
): readonly string[] {
  // It may have been shorter for a moment.
  const size = all.reduce((most, { offset, length }) => Math.max(most, offset + length), 0);
  const disk = Buffer.concat([found, Buffer.alloc(Math.max(0, size - found.length))]);
  const durable = new Uint32Array(disk.length / SECTOR);
  const later = new Map<number, Set<number>>();
  for (const [index, { kind, offset, length, value }] of all.entries()) {
    if (kind === 'flush') continue;
    const content = kind === 'write' || kind === 'compressed' ? value : 0;
    for (let sector = offset / SECTOR; sector < (offset + length) / SECTOR; sector++) {
      if (index < flushed) {
        durable[sector] = content;
        continue;
      }
      const values = later.get(sector);
      if (values === undefined) later.set(sector, new Set([content]));
      else values.add(content);
      if (kind === 'compressed') later.get(sector)?.add(0);
    }
  }
  const wrong: string[] = [];
  for (const [sector, expected] of durable.entries()) {
    const values = new Set<number>();
    for (let at = sector * SECTOR; at < (sector + 1) * SECTOR; at += 4) {
      values.add(disk.readUInt32LE(at));
    }
    for (const value of values) {
      if (value !== expected && later.get(sector)?.has(value) !== true) {
        wrong.push(`sector ${sector}: ${value}, not ${expected}`);
      }
    }
  }
  return wrong;
}
