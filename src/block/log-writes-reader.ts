// Finding the end of a log that blklogwrites shall go on with. Nothing in it is trusted.

import { setImmediate } from 'node:timers/promises';
import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockChild } from './block-child.ts';
import {
  decodeEntry,
  decodeSuperblock,
  ENTRY_SIZE,
  isSectorSize,
  LOG_DISCARD_FLAG,
  LOG_FLAG_MASK,
  SUPERBLOCK_SIZE,
  WRITE_LOG_MAGIC,
  WRITE_LOG_VERSION,
} from './log-writes-format.ts';

/** Others get a turn after so many entries. */
const ENTRIES_PER_TURN = 1024;

export interface LogPosition {
  /** Bytes; may be one that is none, and then nothing else is known. */
  readonly sectorSize: number;
  /** Where the next entry goes. */
  readonly nextSector: number;
  readonly entries: number;
}

/** `scratch` has a sector at least. Throws QmpError, and what `signal` is aborted with. */
export async function readLog(
  log: BlockChild,
  scratch: IoBuffer,
  signal: AbortSignal,
): Promise<LogPosition> {
  await readAt(log, scratch, 0, SUPERBLOCK_SIZE, 'Could not read log superblock');
  const { magic, version, entries, sectorSize } = decodeSuperblock(scratch.bytes);
  if (magic !== WRITE_LOG_MAGIC) throw new QmpError('Invalid log superblock magic');
  if (version !== WRITE_LOG_VERSION) throw new QmpError(`Unsupported log version ${version}`);
  if (!isSectorSize(sectorSize)) return { sectorSize, nextSector: 1, entries: 0 };

  let sector = 1n;
  let index = 0;
  for (; BigInt(index) < entries; index++) {
    const offset = Number(sector) * sectorSize;
    const failing = `Failed to read log entry ${index}`;
    // The reference reads zeroes there, for as many entries as are told of.
    if (offset >= log.node.length) throw new QmpError(`${failing}: ${strerror(errno.EINVAL)}`);
    await readAt(log, scratch, offset, ENTRY_SIZE, failing);
    const entry = decodeEntry(scratch.bytes);
    if ((entry.flags & ~BigInt(LOG_FLAG_MASK)) !== 0n) {
      throw new QmpError(`Invalid flags 0x${entry.flags.toString(16)} in log entry ${index}`);
    }
    sector += (entry.flags & BigInt(LOG_DISCARD_FLAG)) === 0n ? 1n + entry.sectors : 1n;
    if (index % ENTRIES_PER_TURN === ENTRIES_PER_TURN - 1) {
      await setImmediate();
      signal.throwIfAborted();
    }
  }
  const nextSector = Number(sector);
  if (!Number.isSafeInteger(nextSector * sectorSize)) {
    throw new QmpError(`Failed to read log entry ${index - 1}: ${strerror(errno.EFBIG)}`);
  }
  return { sectorSize, nextSector, entries: index };
}

async function readAt(
  log: BlockChild,
  scratch: IoBuffer,
  offset: number,
  length: number,
  failing: string,
): Promise<void> {
  try {
    await log.read(offset, length, scratch, 0);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${failing}: ${error.reason}`, { cause: error });
  }
}
