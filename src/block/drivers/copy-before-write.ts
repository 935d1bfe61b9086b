// The filter `copy-before-write`: before something is written to the node below, what was there is copied to a target. So the
// content at the moment when the filter came stays readable: from the target where it was copied, from the node elsewhere
// (snapshot-access does that).

import { Bitmap } from '../../base/bitmap.ts';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsCbw, OnCbwError } from '../../qapi/generated/types.ts';
import type { BlockChild } from '../block-child.ts';
import { BlockCopy, type ClusterRange } from '../block-copy.ts';
import {
  type BlockDriver,
  type BlockStatus,
  CHILD_DATA,
  CHILD_FILTERED,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  type RequestFlags,
  WRITE_UNCHANGED,
} from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { statusInChild } from '../block-status.ts';
import { lookUpDirtyBitmap } from '../dirty-bitmap-commands.ts';
import type { OpenContext } from '../driver-context.ts';
import { filenameOf } from '../filename.ts';
import { filteredChild, openFiltered, passFlags, passThrough } from '../filter.ts';
import { addInternalBitmap } from '../internal-bitmap.ts';

/** A read of the old content from the node below: it must not be written there meanwhile. */
interface FrozenRead extends ClusterRange {
  readonly ended: Promise<void>;
}

export interface CopyBeforeWriteState {
  /** Take the bitmaps off their nodes. */
  readonly removeBitmaps: readonly (() => void)[];
  readonly context: OpenContext;
  readonly target: BlockChild;
  readonly copy: BlockCopy;
  /** Clusters of the old content that may be read. */
  readonly readable: Bitmap;
  /** Clusters whose old content is in the target. */
  readonly copied: Bitmap;
  readonly frozen: Set<FrozenRead>;
  readonly onError: OnCbwError;
  /** Seconds after which copying counts as failed; 0 for never. */
  readonly timeout: number;
  /** The old content is lost. */
  broken: boolean;
}

type CbwNode = BlockNode<CopyBeforeWriteState>;

export const copyBeforeWrite: BlockDriver<CopyBeforeWriteState, BlockdevOptionsCbw> = {
  name: 'copy-before-write',
  kind: 'filter',
  strongOptions: [],
  exactFilename: (node) => filenameOf(filteredChild(node).node),

  async open(node, options, context) {
    const file = await openFiltered(options, context);
    const target = await context.openChild('target', options.target, CHILD_DATA);
    const wanted = bitmapOf(options, context);
    passFlags(node);
    const copy = new BlockCopy(file, target, context.log);
    if (wanted !== undefined) {
      wanted.checkUsable();
      copy.missing.clearAll();
      if (wanted.length !== file.node.length) {
        throw new QmpError(
          `Cannot create block-copy-state: Failed to merge bitmap '${wanted.name}' to internal ` +
            `copy-bitmap: Bitmaps are of different sizes (destination size is ${file.node.length}, ` +
            `source size is ${wanted.length}) and can't be merged`,
        );
      }
      for (let at = 0; ; ) {
        const area = wanted.nextDirtyArea(at, wanted.length);
        if (area === undefined) break;
        const range = copy.clustersOf(area.offset, area.length);
        if (range !== undefined) copy.missing.set(range.first, range.last);
        at = area.offset + area.length;
      }
    }
    const readable = new Bitmap(copy.missing.length);
    readable.union(copy.missing);
    const copied = new Bitmap(copy.missing.length);
    const { clusterSize } = copy;
    const removeBitmaps = [
      addInternalBitmap(file.node, copy.missing, clusterSize),
      addInternalBitmap(node, copied, clusterSize),
      addInternalBitmap(node, readable, clusterSize),
    ];
    return {
      removeBitmaps,
      context,
      target,
      copy,
      readable,
      copied,
      frozen: new Set(),
      onError: options['on-cbw-error'] ?? 'break-guest-write',
      timeout: options['cbw-timeout'] ?? 0,
      broken: false,
    };
  },

  close({ state: { removeBitmaps } }) {
    for (const end of removeBitmaps) end();
  },

  length: passThrough.length,
  read: passThrough.read,
  write(node, offset, length, from, at, flags) {
    const file = filteredChild(node);
    const saved = save(node, offset, length, flags);
    if (saved === undefined) return file.write(offset, length, from, at, flags);
    return saved.then(() => file.write(offset, length, from, at, flags));
  },
  writeZeroes(node, offset, length, flags) {
    const file = filteredChild(node);
    const saved = save(node, offset, length, flags);
    if (saved === undefined) return file.writeZeroes(offset, length, flags);
    return saved.then(() => file.writeZeroes(offset, length, flags));
  },
  discard(node, offset, length) {
    const file = filteredChild(node);
    const saved = save(node, offset, length, 0);
    if (saved === undefined) return file.discard(offset, length);
    return saved.then(() => file.discard(offset, length));
  },

  childPermissions(node, role, { perm, shared }) {
    // The target may have the source for its backing file, which the guest writes to.
    if ((role & CHILD_FILTERED) === 0) {
      return { perm: PERM_WRITE, shared: PERM_ALL & ~PERM_RESIZE };
    }
    if (node.parents.length === 0) return { perm, shared };
    const reads = (perm & PERM_WRITE) === 0 ? 0 : PERM_CONSISTENT_READ;
    return { perm: perm | reads, shared: shared & ~(PERM_WRITE | PERM_RESIZE) };
  },

  snapshot: { read: readSnapshot, blockStatus: snapshotStatus, discard: discardSnapshot },
};

/** Clusters of an area (bytes) that both the filter and the node below have, whose lengths may change apart; undefined for none. */
function clustersOf(
  { copy, readable }: CopyBeforeWriteState,
  offset: number,
  length: number,
): ClusterRange | undefined {
  const range = copy.clustersOf(offset, length);
  if (range === undefined || range.last < readable.length) return range;
  const last = readable.length - 1;
  return range.first <= last ? { first: range.first, last } : undefined;
}

/** Before a write: copies what is there, and waits for those who are reading it. Nothing when there is nothing to do. */
function save(
  node: CbwNode,
  offset: number,
  length: number,
  flags: RequestFlags,
): Promise<void> | undefined {
  const { state } = node;
  if ((flags & WRITE_UNCHANGED) !== 0 || state.broken) return undefined;
  const range = clustersOf(state, offset, length);
  if (range === undefined) return undefined;
  if (state.copy.isDone(range) && frozenIn(state, range) === undefined) {
    state.copied.set(range.first, range.last);
    return undefined;
  }
  return saveLater(node, range);
}

async function saveLater(node: CbwNode, range: ClusterRange): Promise<void> {
  const { state } = node;
  try {
    await inTime(node, range);
    state.copied.set(range.first, range.last);
  } catch (error) {
    if (!(error instanceof IoError) || state.onError === 'break-guest-write') throw error;
    state.broken = true;
  }
  for (let read = frozenIn(state, range); read !== undefined; read = frozenIn(state, range)) {
    await read.ended;
  }
}

/** Copies, but not for longer than is allowed: then it goes on behind the node's back. */
async function inTime(node: CbwNode, range: ClusterRange): Promise<void> {
  const { copy, timeout, context } = node.state;
  node.requests.enter();
  const copying = copy.copy(range).finally(() => node.requests.leave());
  if (timeout === 0) return copying;
  let stop = (): void => {};
  const late = new Promise<never>((_, reject) => {
    stop = context.clock.after(timeout * 1000, () =>
      reject(new IoError(errno.ETIMEDOUT, { syscall: 'copy before write' })),
    );
  });
  try {
    await Promise.race([copying, late]);
  } finally {
    stop();
    copying.catch(() => {});
  }
}

function frozenIn(
  { frozen }: CopyBeforeWriteState,
  { first, last }: ClusterRange,
): FrozenRead | undefined {
  for (const read of frozen) if (read.first <= last && first <= read.last) return read;
  return undefined;
}

/** Where the old content of the start of an area is. Throws IoError EACCES when any of the area is not to be read. */
function locate(
  { state }: CbwNode,
  offset: number,
  length: number,
): { readonly length: number; readonly range: ClusterRange; readonly isCopied: boolean } {
  const { copy, readable, copied, broken } = state;
  const range = clustersOf(state, offset, length);
  const refused = range === undefined || readable.nextClear(range.first, range.last + 1) >= 0;
  if (refused || broken) throw new IoError(errno.EACCES, { syscall: 'snapshot', offset });
  const isCopied = copied.has(range.first);
  const end = range.last + 1;
  const change = isCopied ? copied.nextClear(range.first, end) : copied.nextSet(range.first, end);
  const last = (change < 0 ? end : change) - 1;
  const here = Math.min(length, (last + 1) * copy.clusterSize - offset);
  return { length: here, range: { first: range.first, last }, isCopied };
}

async function readSnapshot(
  node: CbwNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const place = locate(node, offset + done, length - done);
    const read = (child: BlockChild): MaybePromise<void> =>
      child.read(offset + done, place.length, into, at + done);
    if (place.isCopied) await read(node.state.target);
    else await whileFrozen(node, place.range, () => read(filteredChild(node)));
    done += place.length;
  }
}

async function snapshotStatus(
  node: CbwNode,
  offset: number,
  length: number,
  wantZero: boolean,
): Promise<BlockStatus> {
  const place = locate(node, offset, length);
  const query = { offset, length: place.length, wantZero };
  const child = place.isCopied ? node.state.target : filteredChild(node);
  const look = (): MaybePromise<BlockStatus> => statusInChild(child.node, query);
  return place.isCopied ? look() : whileFrozen(node, place.range, look);
}

/** Only whole clusters are given up. */
function discardSnapshot(node: CbwNode, offset: number, length: number): MaybePromise<void> {
  const { copy, readable, target } = node.state;
  const first = Math.ceil(offset / copy.clusterSize);
  const end = offset + length;
  const isEnd = end >= filteredChild(node).node.length;
  const lastWhole = isEnd ? readable.length : Math.floor(end / copy.clusterSize);
  const last = Math.min(lastWhole, readable.length) - 1;
  if (first <= last) {
    readable.clear(first, last);
    copy.skip({ first, last });
  }
  return target.discard(offset, length);
}

async function whileFrozen<T>(
  { state }: CbwNode,
  range: ClusterRange,
  work: () => MaybePromise<T>,
): Promise<T> {
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const read: FrozenRead = { ...range, ended };
  state.frozen.add(read);
  try {
    return await work();
  } finally {
    state.frozen.delete(read);
    end();
  }
}

/** The bitmap of what is worth saving. Throws QmpError. */
function bitmapOf({ bitmap }: BlockdevOptionsCbw, context: OpenContext) {
  return bitmap === undefined ? undefined : lookUpDirtyBitmap(context, bitmap);
}
