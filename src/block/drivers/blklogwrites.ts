// The filter `blklogwrites`: notes in a second node what is written to the first, in the order in which it was, so that every
// state that the first one was in can be had again. The log is what Linux calls dm-log-writes; log-writes-format.ts has it.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsBlklogwrites } from '../../qapi/generated/types.ts';
import type { BlockChild } from '../block-child.ts';
import { type BlockDriver, CHILD_METADATA } from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import type { OpenContext } from '../driver-context.ts';
import { filteredChild, openFiltered, passThrough } from '../filter.ts';
import {
  encodeEntry,
  encodeSuperblock,
  isSectorSize,
  LOG_DISCARD_FLAG,
  LOG_FLUSH_FLAG,
} from '../log-writes-format.ts';
import { type LogPosition, readLog } from '../log-writes-reader.ts';

const DEFAULT_SECTOR = 512;
const DEFAULT_INTERVAL = 4096;

export interface BlklogwritesState {
  readonly log: BlockChild;
  /** Bytes; entries begin at multiples of it, and count in it. */
  readonly sectorSize: number;
  /** The superblock is written after so many entries, and at every flush. */
  readonly interval: number;
  /** Where the next entry goes, in sectors of the log. */
  nextSector: number;
  entries: number;
  /** The superblock that is being written last. */
  superblock: Promise<void>;
}

type LogNode = BlockNode<BlklogwritesState>;

/** What there is to note, in bytes. */
interface Entry {
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
  /** The data that follow: bytes of a request, zeroes, or none. */
  readonly content?: { readonly from: IoBuffer; readonly at: number } | 'zeroes';
}

export const blklogwrites: BlockDriver<BlklogwritesState, BlockdevOptionsBlklogwrites> = {
  name: 'blklogwrites',
  kind: 'filter',
  strongOptions: ['log-append', 'log-sector-size'],

  async open(_node, options, context) {
    await openFiltered(options, context);
    const log = await context.openChild('log', options.log, CHILD_METADATA);
    const { sectorSize, nextSector, entries } = await startOf(options, log, context);
    const interval = options['log-super-update-interval'] ?? DEFAULT_INTERVAL;
    if (!isSectorSize(sectorSize)) throw new QmpError(`Invalid log sector size ${sectorSize}`);
    if (interval === 0) throw new QmpError('Invalid log superblock update interval 0');
    return { log, sectorSize, interval, nextSector, entries, superblock: Promise.resolve() };
  },
  refreshLimits({ state: { sectorSize } }, limits) {
    limits.requestAlignment = sectorSize;
  },

  length: passThrough.length,
  read: passThrough.read,
  write(node, offset, length, from, at, flags) {
    const entry: Entry = { offset, length, flags: 0, content: { from, at } };
    return noted(node, entry, () => filteredChild(node).write(offset, length, from, at, flags));
  },
  writeZeroes(node, offset, length, flags) {
    const entry: Entry = { offset, length, flags: 0, content: 'zeroes' };
    return noted(node, entry, () => filteredChild(node).writeZeroes(offset, length, flags));
  },
  discard(node, offset, length) {
    const { sectorSize } = node.state;
    if (offset % sectorSize !== 0 || length % sectorSize !== 0) {
      // It could not be noted.
      throw new IoError(errno.ENOTSUP, { syscall: 'discard', offset });
    }
    const entry: Entry = { offset, length, flags: LOG_DISCARD_FLAG };
    return noted(node, entry, () => filteredChild(node).discard(offset, length));
  },
  flush(node) {
    const entry: Entry = { offset: 0, length: 0, flags: LOG_FLUSH_FLAG };
    return noted(node, entry, () => filteredChild(node).flush());
  },
};

/** Throws QmpError. */
function startOf(
  options: BlockdevOptionsBlklogwrites,
  log: BlockChild,
  { allocate, signal }: OpenContext,
): LogPosition | Promise<LogPosition> {
  const { 'log-append': appends = false, 'log-sector-size': sectorSize } = options;
  if (!appends) return { sectorSize: sectorSize ?? DEFAULT_SECTOR, nextSector: 1, entries: 0 };
  if (sectorSize !== undefined) {
    throw new QmpError('log-append and log-sector-size are mutually exclusive');
  }
  if (log.node.length === 0) return { sectorSize: DEFAULT_SECTOR, nextSector: 1, entries: 0 };
  return readLog(log, allocate(DEFAULT_SECTOR), signal);
}

/** Makes the request, then notes it, whatever came of it: a part may have been written. A failure to note counts first. */
async function noted(
  node: LogNode,
  entry: Entry,
  request: () => MaybePromise<void>,
): Promise<void> {
  let failure: unknown;
  try {
    await request();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    failure = error;
  }
  await note(node, entry);
  if (failure !== undefined) throw failure;
}

async function note(node: LogNode, entry: Entry): Promise<void> {
  const { state } = node;
  const { log, sectorSize } = state;
  const { length, content } = entry;
  // The place is taken before anything waits: other requests are noted meanwhile.
  const start = state.nextSector * sectorSize;
  state.nextSector += 1 + (content === undefined ? 0 : length / sectorSize);
  state.entries++;
  const isLastOfInterval = state.entries % state.interval === 0;
  const header = node.pool.take(sectorSize);
  encodeEntry(header.bytes.subarray(0, sectorSize), {
    sector: entry.offset / sectorSize,
    sectors: length / sectorSize,
    flags: entry.flags,
  });
  await log.write(start, sectorSize, header, 0);
  node.pool.give(header);
  if (content === 'zeroes') await log.writeZeroes(start + sectorSize, length);
  else if (content !== undefined) {
    await log.write(start + sectorSize, length, content.from, content.at);
  }
  if (isLastOfInterval || (entry.flags & LOG_FLUSH_FLAG) !== 0) await updateSuperblock(node);
}

/** One at a time, so that an older count never lands on a newer one. */
function updateSuperblock(node: LogNode): Promise<void> {
  const { state } = node;
  const written = state.superblock.then(() => writeSuperblock(node));
  state.superblock = written.catch(() => {});
  return written;
}

async function writeSuperblock(node: LogNode): Promise<void> {
  const { log, sectorSize, entries } = node.state;
  const block = node.pool.take(sectorSize);
  encodeSuperblock(block.bytes.subarray(0, sectorSize), { entries, sectorSize });
  await log.write(0, sectorSize, block, 0);
  node.pool.give(block);
  await log.flush();
}
