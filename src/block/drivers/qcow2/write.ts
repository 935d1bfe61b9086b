// Writing. Clusters that are the image's own are written where they are, without waiting for anything; all others get a place
// first, the rest of their content is copied there, and only then the L2 table shows them.

import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import {
  type Allocation,
  allocationIn,
  beginAllocation,
  endAllocation,
  link,
  undo,
  writableSlice,
} from './allocation.ts';
import { checkUsable } from './corruption.ts';
import { allocateClusters } from './host-clusters.ts';
import type { Qcow2Image } from './image.ts';
import { emptyEntry, type L2Entry } from './l1-l2.ts';
import {
  DATA,
  emptyMapping,
  mapCached,
  readEntry,
  UNALLOCATED,
  UNALLOCATED_AT,
  ZERO,
  ZERO_AT,
} from './mapping.ts';
import { checkOverlap } from './overlap.ts';
import { read } from './read.ts';

/** Up to here what is copied and what is written go out as one. */
const ONE_WRITE = 256 * 1024;
const LARGEST_COPY = 1024 * 1024;

/** Writes guest data. */
export function write(
  image: Qcow2Image,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): MaybePromise<void> {
  const mapping = image.scratchMapping;
  for (let done = 0; done < length; ) {
    checkUsable(image);
    const here = offset + done;
    const left = length - done;
    if (!mapCached(image, here, left, mapping) || mapping.kind !== DATA || !mapping.copied) {
      return writeParts(image, here, left, from, at + done);
    }
    const part = mapping.length;
    const place = { offset: here, length: part, hostOffset: mapping.hostOffset };
    const later = writeInPlace(image, place, from, at + done);
    done += part;
    if (later === undefined) continue;
    if (part === left) return later;
    const next = done;
    return later.then(() => write(image, offset + next, length - next, from, at + next));
  }
}

/** Remembers the write while it is in flight: its clusters must not become free meanwhile. */
function writeInPlace(
  image: Qcow2Image,
  place: { offset: number; length: number; hostOffset: number },
  from: IoBuffer,
  at: number,
): MaybePromise<void> {
  const { offset, length, hostOffset } = place;
  if (!image.geometry.hasDataFile) checkOverlap(image, hostOffset, length);
  image.file.debugEvent('write_aio');
  const later = image.dataFile.write(hostOffset, length, from, at);
  if (later === undefined) return undefined;
  return whileInFlight(image, offset, length, later);
}

async function whileInFlight(
  image: Qcow2Image,
  offset: number,
  length: number,
  done: Promise<void>,
): Promise<void> {
  const own = { start: offset, end: offset + length, done };
  image.inPlaceWrites.push(own);
  try {
    await done;
  } finally {
    const { inPlaceWrites } = image;
    const last = inPlaceWrites.pop();
    if (last !== undefined && last !== own) inPlaceWrites[inPlaceWrites.indexOf(own)] = last;
  }
}

/** What to do about the start of a write. */
type Step =
  | { readonly kind: 'wait'; readonly until: Promise<unknown> }
  | { readonly kind: 'started'; readonly length: number; readonly later: MaybePromise<void> }
  | { readonly kind: 'allocated'; readonly length: number; readonly allocation: Allocation };

async function writeParts(
  image: Qcow2Image,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const here = offset + done;
    const step = await image.lock.run(() => plan(image, here, length - done, from, at + done));
    if (step.kind === 'wait') {
      await step.until;
    } else if (step.kind === 'started') {
      await step.later;
      done += step.length;
    } else {
      await writeNew(
        image,
        step.allocation,
        { offset: here, length: step.length },
        from,
        at + done,
      );
      done += step.length;
    }
  }
}

/** The lock is held. A write to clusters of one's own is started here, before anybody could take them. */
async function plan(
  image: Qcow2Image,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): Promise<Step> {
  checkUsable(image);
  const { clusterSize, sliceSize, l2EntrySize } = image.geometry;
  const start = offset - (offset % clusterSize);
  const busy = allocationIn(image, start, Math.ceil((offset + length) / clusterSize) * clusterSize);
  if (busy !== undefined && busy.start <= start) return { kind: 'wait', until: busy.done };
  const most = busy === undefined ? length : busy.start - offset;
  const slice = await writableSlice(image, offset);
  const mapping = emptyMapping();
  if (!mapCached(image, offset, most, mapping)) throw new Error('A slice that was just loaded');
  if (mapping.kind === DATA && mapping.copied) {
    const place = { offset, length: mapping.length, hostOffset: mapping.hostOffset };
    return { kind: 'started', length: mapping.length, later: writeInPlace(image, place, from, at) };
  }
  const first = emptyEntry();
  readEntry(image, slice, offset, first);
  if (first.allocated && first.copied) return changeInPlace(image, offset, most, first);
  // Neighbours that need a new cluster as well, in the same slice.
  const coverage = (sliceSize / l2EntrySize) * clusterSize;
  const sliceEnd = offset - (offset % coverage) + coverage;
  const end = Math.min(sliceEnd, Math.ceil((offset + most) / clusterSize) * clusterSize);
  const entries = [first];
  for (let guest = start + clusterSize; guest < end; guest += clusterSize) {
    const entry = emptyEntry();
    readEntry(image, slice, guest, entry);
    if (entry.allocated && entry.copied) break;
    entries.push(entry);
  }
  return takeNew(image, offset, most, entries);
}

/** A cluster of one's own that does not have data everywhere: they are written there, and the entry changes afterwards. */
function changeInPlace(image: Qcow2Image, offset: number, most: number, entry: L2Entry): Step {
  const { clusterSize, subclusterSize } = image.geometry;
  const start = offset - (offset % clusterSize);
  const length = Math.min(most, start + clusterSize - offset);
  const has = (guest: number): boolean =>
    (entry.data & (1 << Math.floor((guest - start) / subclusterSize))) !== 0;
  const end = offset + length;
  const allocation = beginAllocation(image, {
    start,
    end: start + clusterSize,
    hostOffset: entry.hostOffset,
    isNew: false,
    copyStart: has(offset) ? offset : offset - (offset % subclusterSize),
    copyEnd: has(end - 1) ? end : Math.ceil(end / subclusterSize) * subclusterSize,
    dataStart: offset - (offset % subclusterSize),
    dataEnd: Math.ceil(end / subclusterSize) * subclusterSize,
    isFresh: entry.hostOffset >= image.dataFile.node.length,
  });
  return { kind: 'allocated', length, allocation };
}

/** Takes host clusters for as many of the entries as there are free ones in a row. */
async function takeNew(
  image: Qcow2Image,
  offset: number,
  most: number,
  entries: readonly L2Entry[],
): Promise<Step> {
  const { clusterSize, subclusterSize, subclusters, hasDataFile } = image.geometry;
  const start = offset - (offset % clusterSize);
  let count = entries.length;
  let hostOffset = start;
  if (!hasDataFile) {
    const run = await allocateClusters(image, count);
    count = run.count;
    hostOffset = run.first * clusterSize;
  }
  const end = start + count * clusterSize;
  const length = Math.min(most, end - offset);
  // What was elsewhere moves, too; subclusters before and behind it all that have no data stay as they are.
  const [firstBit] = dataBits(entries[0], subclusters);
  const [, lastBit] = dataBits(entries[count - 1], subclusters);
  const dataStart = Math.min(
    offset - (offset % subclusterSize),
    start + (firstBit ?? Number.POSITIVE_INFINITY) * subclusterSize,
  );
  const dataEnd = Math.max(
    Math.ceil((offset + length) / subclusterSize) * subclusterSize,
    end - clusterSize + ((lastBit ?? -1) + 1) * subclusterSize,
  );
  const allocation = beginAllocation(image, {
    start,
    end,
    hostOffset,
    isNew: true,
    copyStart: dataStart,
    copyEnd: dataEnd,
    dataStart,
    dataEnd,
    isFresh: hostOffset >= image.dataFile.node.length,
  });
  return { kind: 'allocated', length, allocation };
}

/** The first and the last subcluster with data, where there are any. A compressed cluster has them everywhere. */
function dataBits(
  entry: L2Entry | undefined,
  subclusters: number,
): readonly [first?: number, last?: number] {
  if (entry?.compressed === true) return [0, subclusters - 1];
  if (entry?.allocated !== true || entry.data === 0) return [];
  return [31 - Math.clz32(entry.data & -entry.data), 31 - Math.clz32(entry.data)];
}

/** Writes data and what is around them to their new place, and shows it. */
async function writeNew(
  image: Qcow2Image,
  allocation: Allocation,
  area: { offset: number; length: number },
  from: IoBuffer,
  at: number,
): Promise<void> {
  try {
    await writeWithCopies(image, allocation, area, from, at);
  } catch (error) {
    await undo(image, allocation).catch((later: unknown) => {
      image.log.debug(`Clusters are lost: ${String(later)}`);
    });
    endAllocation(image, allocation);
    throw error;
  }
  try {
    await link(image, allocation);
  } finally {
    endAllocation(image, allocation);
  }
}

async function writeWithCopies(
  image: Qcow2Image,
  allocation: Allocation,
  { offset, length }: { offset: number; length: number },
  from: IoBuffer,
  at: number,
): Promise<void> {
  const { dataFile } = image;
  const { copyStart, copyEnd } = allocation;
  const host = allocation.hostOffset - allocation.start;
  const end = offset + length;
  const copies = copyStart < offset || end < copyEnd;
  const reachesOnlyZeroes =
    allocation.isFresh && isZero(image, copyStart, offset) && isZero(image, end, copyEnd);
  if (!copies || reachesOnlyZeroes) {
    // The place is one of zeroes already.
    if (copies) image.file.debugEvent('cluster_alloc_space');
    image.file.debugEvent('write_aio');
    await dataFile.write(host + offset, length, from, at);
    return;
  }
  if (copyEnd - copyStart <= ONE_WRITE) {
    const bounce = image.node.pool.take(copyEnd - copyStart);
    image.file.debugEvent('cow_read');
    if (copyStart < offset) await read(image, copyStart, offset - copyStart, bounce, 0);
    from.bytes.copy(bounce.bytes, offset - copyStart, at, at + length);
    if (end < copyEnd) await read(image, end, copyEnd - end, bounce, end - copyStart);
    // Data and copies in one request.
    image.file.debugEvent('write_aio');
    image.file.debugEvent('cow_write');
    await dataFile.write(host + copyStart, copyEnd - copyStart, bounce, 0);
    image.node.pool.give(bounce);
  } else {
    await copy(image, copyStart, offset, host);
    image.file.debugEvent('write_aio');
    await dataFile.write(host + offset, length, from, at);
    await copy(image, end, copyEnd, host);
  }
  // Old content must not be lost though the new place was not flushed. A flush that was over before does not count.
  image.l2Cache.dependOnFlush();
}

/** Copies what a guest sees between two offsets to where `host` moves them. */
async function copy(image: Qcow2Image, start: number, end: number, host: number): Promise<void> {
  for (let from = start; from < end; from += LARGEST_COPY) {
    const length = Math.min(LARGEST_COPY, end - from);
    const bounce = image.node.pool.take(length);
    image.file.debugEvent('cow_read');
    await read(image, from, length, bounce, 0);
    image.file.debugEvent('cow_write');
    await image.dataFile.write(host + from, length, bounce, 0);
    image.node.pool.give(bounce);
  }
}

/** True when a guest is known to see only zeroes there. */
function isZero(image: Qcow2Image, start: number, end: number): boolean {
  const mapping = emptyMapping();
  const { backing } = image.node;
  for (let from = start; from < end; from += mapping.length) {
    if (!mapCached(image, from, end - from, mapping)) return false;
    const { kind } = mapping;
    if (kind === ZERO || kind === ZERO_AT) continue;
    if (kind !== UNALLOCATED && kind !== UNALLOCATED_AT) return false;
    if (backing !== undefined && from < backing.node.length) return false;
  }
  return true;
}
