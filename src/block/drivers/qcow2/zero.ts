// Zeroes and discards: guest clusters that lose what they had. Their host clusters become free, or stay with the guest cluster
// for the next write.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { BLOCK_ZERO, MAY_UNMAP, type RequestFlags } from '../../block-driver.ts';
import { blockStatus } from '../../block-status.ts';
import { allocationIn, freeEntry, writableSlice } from './allocation.ts';
import { checkUsable } from './corruption.ts';
import { AUTOCLEAR_DATA_FILE_RAW } from './features.ts';
import type { Qcow2Image } from './image.ts';
import { ALL_SUBCLUSTERS, emptyEntry, type L2Entry, putL2, tableOffset } from './l1-l2.ts';
import { entryAt, loadSlice, readEntry } from './mapping.ts';
import type { FreeCause } from './options.ts';

/** What becomes of a cluster: `undefined` when it stays as it is. */
interface Change {
  readonly zero: number;
  /** The host cluster, where the entry has one, is given up. */
  readonly frees: boolean;
}
type Decide = (entry: L2Entry, touched: number) => Change | undefined;

/**
 * Makes whole subclusters read as zeroes, or a part of one that has nothing but zeroes around it. Throws ENOTSUP where writing
 * them is the only way.
 */
export async function writeZeroes(
  image: Qcow2Image,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<void> {
  const { subclusterSize, version } = image.geometry;
  const start = offset - (offset % subclusterSize);
  let end = wholeEnd(image, offset + length, subclusterSize);
  const isPart = start !== offset || end === undefined;
  end ??= Math.ceil((offset + length) / subclusterSize) * subclusterSize;
  if (
    isPart &&
    !((await isZero(image, start, offset)) && (await isZero(image, offset + length, end)))
  ) {
    throw notSupported(offset);
  }
  // Somebody may have written around it since.
  const checkPart = (entry: L2Entry, touched: number): void => {
    if (isPart && (entry.compressed || (entry.data & touched) !== 0)) throw notSupported(offset);
  };
  if (version < 3) {
    if (image.node.backing !== undefined) throw notSupported(offset);
    const decide: Decide = (entry, touched) => {
      checkPart(entry, touched);
      return discarded(image, entry, false);
    };
    return change(image, start, end, { decide, addsTables: false, cause: 'request' });
  }
  const unmaps = (flags & MAY_UNMAP) !== 0;
  const decide: Decide = (entry, touched) => {
    checkPart(entry, touched);
    const whole = touched === allOf(image);
    if (entry.compressed && !whole) throw notSupported(offset);
    const frees = whole && (entry.compressed || (unmaps && entry.allocated));
    return { zero: frees ? touched : entry.zero | touched, frees };
  };
  const raw = rawFlags(image, flags);
  await change(image, start, end, { decide, addsTables: true, cause: 'request', raw });
}

/** Gives up whole clusters; they read as zeroes afterwards. Throws ENOTSUP. */
export async function discard(image: Qcow2Image, offset: number, length: number): Promise<void> {
  const { clusterSize, version } = image.geometry;
  // What was overwritten long ago would come back from the backing file.
  if (version < 3 && image.node.backing !== undefined) throw notSupported(offset);
  const end = wholeEnd(image, offset + length, clusterSize);
  if (offset % clusterSize !== 0 || end === undefined) throw notSupported(offset);
  const decide: Decide = (entry) => discarded(image, entry, image.geometry.version >= 3);
  const raw = rawFlags(image, image.settings.discards.request ? MAY_UNMAP : 0);
  await change(image, offset, end, { decide, addsTables: false, cause: 'request', raw });
}

/** Gives up all clusters of an area that is no longer part of the disk. */
export function drop(image: Qcow2Image, start: number, end: number): Promise<void> {
  const decide: Decide = () => ({ zero: 0, frees: true });
  return change(image, start, end, { decide, addsTables: false, cause: 'always' });
}

function discarded(image: Qcow2Image, entry: L2Entry, saysZero: boolean): Change | undefined {
  const holds = entry.allocated || entry.compressed;
  if (!holds && image.node.backing === undefined) return undefined;
  return { zero: saysZero ? allOf(image) : 0, frees: true };
}

interface Changes {
  readonly decide: Decide;
  /** Even where there is no L2 table, and nothing shines through. */
  readonly addsTables: boolean;
  readonly cause: FreeCause;
  /** How to zero a raw data file, which is to show to others what the guest sees; undefined for not at all. */
  readonly raw?: RequestFlags | undefined;
}

/** Changes the entries of an area, of whole subclusters, a slice at a time. */
async function change(
  image: Qcow2Image,
  start: number,
  end: number,
  changes: Changes,
): Promise<void> {
  const { clusterSize, sliceSize, l2EntrySize, l2Coverage } = image.geometry;
  const coverage = (sliceSize / l2EntrySize) * clusterSize;
  for (let from = start; from < end; ) {
    checkUsable(image);
    if (!changes.addsTables && hasNothing(image, from)) {
      from = from - (from % l2Coverage) + l2Coverage;
      continue;
    }
    const to = Math.min(end, from - (from % coverage) + coverage);
    const until = await image.lock.run(() => changeInSlice(image, from, to, changes));
    if (until === undefined) from = to;
    else await until.wait;
  }
}

/** Answers what must be over before it can be done; undefined when it is done. The lock is held. */
async function changeInSlice(
  image: Qcow2Image,
  from: number,
  to: number,
  { decide, cause, raw }: Changes,
): Promise<{ readonly wait: Promise<unknown> } | undefined> {
  const { clusterSize, subclusterSize, hasDataFile } = image.geometry;
  const start = from - (from % clusterSize);
  const busy = allocationIn(image, start, Math.ceil(to / clusterSize) * clusterSize);
  if (busy !== undefined) return { wait: busy.done };
  await writableSlice(image, from);
  for (;;) {
    const slice = await loadSlice(image, from);
    // From here on nothing waits, so no write to these clusters can begin.
    const writing = image.inPlaceWrites.find((each) => each.start < to && start < each.end);
    if (writing !== undefined) {
      await Promise.allSettled([writing.done]);
      continue;
    }
    const changes: { guest: number; entry: L2Entry; next: Change }[] = [];
    for (let guest = start; guest < to; guest += clusterSize) {
      const entry = emptyEntry();
      readEntry(image, slice, guest, entry);
      const first = Math.max(0, from - guest) / subclusterSize;
      const last = Math.min(clusterSize, to - guest) / subclusterSize;
      const next = decide(entry, bitsBetween(first, last));
      if (next !== undefined) changes.push({ guest, entry, next });
    }
    if (changes.length === 0) return undefined;
    const undo = raw === undefined ? undefined : Buffer.from(slice.buffer.bytes);
    const freed: L2Entry[] = [];
    for (const { guest, entry, next } of changes) {
      if (entry.allocated && !next.frees) {
        putZero(image, slice.view, guest, entry, next.zero);
        continue;
      }
      if (entry.allocated || entry.compressed) freed.push(entry);
      const gone = { hostOffset: undefined, data: 0, zero: next.zero };
      putL2(slice.view, entryAt(image, guest), image.geometry, gone);
    }
    image.l2Cache.markDirty(slice);
    if (raw !== undefined) {
      // Not before the entries change: a write in place could come between.
      try {
        // A disk that grows has nothing there yet.
        const length = Math.max(0, Math.min(to, image.size) - from);
        await image.dataFile.writeZeroes(from, length, raw);
      } catch (error) {
        undo?.copy(slice.buffer.bytes);
        throw error;
      }
      image.l2Cache.dependOnFlush();
    }
    for (const entry of freed) {
      if (!hasDataFile) await freeEntry(image, entry, cause);
      else if (image.settings.discards[cause]) {
        await image.dataFile.discard(entry.hostOffset, clusterSize);
      }
    }
    return undefined;
  }
}

/** Sets zero bits of a cluster that keeps its place, whoever else uses it. */
function putZero(
  image: Qcow2Image,
  view: DataView,
  guest: number,
  entry: L2Entry,
  zero: number,
): void {
  const at = entryAt(image, guest);
  const { copied, hostOffset } = entry;
  putL2(view, at, image.geometry, { hostOffset, data: entry.data & ~zero, zero });
  // Only a cluster of one's own may be written in place later.
  if (!copied) view.setUint32(at, view.getUint32(at) & 0x7fffffff);
}

function hasNothing(image: Qcow2Image, offset: number): boolean {
  const index = Math.floor(offset / image.geometry.l2Coverage);
  return image.node.backing === undefined && tableOffset(image.l1.view, index * 8) === 0;
}

/** Whether an area reads as zeroes, as far as the tables of the whole chain say. Nothing is zero, too. */
async function isZero(image: Qcow2Image, start: number, end: number): Promise<boolean> {
  const last = Math.min(end, image.size);
  for (let from = start; from < last; ) {
    const { status, length } = await blockStatus(image.node, from, last - from, true);
    if ((status & BLOCK_ZERO) === 0 || length === 0) return false;
    from += length;
  }
  return true;
}

function rawFlags(image: Qcow2Image, flags: RequestFlags): RequestFlags | undefined {
  const isRaw = image.geometry.hasDataFile && (image.autoclear & AUTOCLEAR_DATA_FILE_RAW) !== 0n;
  return isRaw ? flags : undefined;
}

/** The end of an area of whole units; the end of the disk counts as the end of its last one. */
function wholeEnd(image: Qcow2Image, end: number, unit: number): number | undefined {
  if (end % unit === 0) return end;
  return end >= image.size ? Math.ceil(end / unit) * unit : undefined;
}

function allOf(image: Qcow2Image): number {
  return image.geometry.subclusters === 1 ? 1 : ALL_SUBCLUSTERS;
}

function bitsBetween(from: number, to: number): number {
  const below = (bit: number): number => (bit >= 32 ? ALL_SUBCLUSTERS : 2 ** bit - 1);
  return (below(to) & ~below(from)) >>> 0;
}

function notSupported(offset: number): IoError {
  return new IoError(errno.ENOTSUP, { syscall: 'write zeroes', offset });
}
