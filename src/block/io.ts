// THE request path: every request on a node enters here, whoever makes it. Checks the area, widens to the node's alignment
// (io-padding.ts), splits at its limits (io-aligned.ts), keeps overlapping read-modify-writes apart, emulates what the
// driver cannot do. "Done now" costs no promise and no object.
//
// All of it throws or rejects IoError: EIO for an impossible area, EPERM for a write to a read-only or inactive
// node.

import type { DataPipe, PipeSource } from '../base/data-pipe.ts';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { FileRange, RequestFlags } from './block-driver.ts';
import { NO_FALLBACK } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { type Completion, type Started, tell } from './completion.ts';
import { readAligned, writeAligned } from './io-aligned.ts';
import { discardArea } from './io-discard.ts';
import {
  checkEnd,
  conflicts,
  inFlight,
  MAX_REQUEST,
  tracked,
  trackedAfterConflicts,
} from './io-driver.ts';
import { readUnaligned, writeUnaligned, zeroUnaligned } from './io-padding.ts';
import { notSupported, writeZeroesAligned } from './io-zero.ts';

/** Reads `length` bytes at `offset` into `into` at `at`. */
export function read(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  flags: RequestFlags = 0,
): MaybePromise<void> {
  checkTransfer(offset, length, into, at, 'read');
  if (length === 0) return undefined;
  // Bits of numbers above 2^32 are right here: the conversion to 32 bits keeps the low ones.
  if (((offset | length) & (node.limits.requestAlignment - 1)) !== 0) {
    return readUnaligned(node, offset, length, into, at, flags);
  }
  return readAligned(node, offset, length, into, at, flags);
}

/** As read, without a promise if the driver can do so: `completion` is told, unless it is done now. */
export function startRead(
  node: BlockNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  completion: Completion,
  pipes?: PipeSource,
): Started {
  const { driver } = node;
  if (
    driver.startRead === undefined ||
    offset + length > node.length ||
    !isPlain(node, offset, length)
  ) {
    return tell(read(node, offset, length, into, at), completion);
  }
  checkTransfer(offset, length, into, at, 'read');
  const request = node.requests.prepare(offset, length, completion);
  return request.started(driver.startRead(node, offset, length, into, at, request, pipes));
}

/** Where the area lies in the page cache of a file, if it does: instead of a read. Good until the next wait only. */
export function cachedRange(
  node: BlockNode,
  offset: number,
  length: number,
): FileRange | undefined {
  checkArea(offset, length, 'read');
  if (node.driver.cachedRange === undefined || conflicts(node, offset, length)) return undefined;
  if (offset + length > node.length) return undefined;
  return node.driver.cachedRange(node, offset, length);
}

/** Reads for the effect alone, where there is one. */
export function prefetch(node: BlockNode, offset: number, length: number): MaybePromise<void> {
  checkArea(offset, length, 'prefetch');
  if (length === 0) return undefined;
  const later = node.driver.prefetch?.(node, offset, length);
  return later === undefined ? undefined : inFlight(node, later);
}

/** Writes `length` bytes of `from` at `at` to `offset`. A user that may resize may write beyond the end. */
export function write(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags = 0,
): MaybePromise<void> {
  checkTransfer(offset, length, from, at, 'write');
  if (!node.writable) throw new IoError(errno.EPERM, { syscall: 'write', offset });
  if (length === 0) return undefined;
  checkEnd(node, offset, length);
  if (node.dirtyBitmaps.length > 0) node.checkBitmapsWritable(offset);
  if (((offset | length) & (node.limits.requestAlignment - 1)) !== 0) {
    return writeUnaligned(node, offset, length, from, at, flags);
  }
  return writeAligned(node, offset, length, from, at, flags);
}

/**
 * As write, without a promise if the driver can do so: `completion` is told, unless it is done now. With `pipe` the data are in
 * there, all of them and nothing else: they are taken out before the request ends, or go to their place in memory first.
 */
export function startWrite(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
  completion: Completion,
  pipe?: DataPipe,
): Started {
  const { driver } = node;
  checkTransfer(offset, length, from, at, 'write');
  if (pipe !== undefined && pipe.length !== length) {
    throw new RangeError(`write of ${length} bytes from a pipe with ${pipe.length}`);
  }
  if (
    driver.startWrite === undefined ||
    driver.debugEvent !== undefined ||
    node.detectZeroes !== 'off' ||
    (flags & ~node.supportedWriteFlags) !== 0 ||
    !node.writable ||
    !isPlain(node, offset, length)
  ) {
    pipe?.empty(from, at);
    return tell(write(node, offset, length, from, at, flags), completion);
  }
  checkEnd(node, offset, length);
  if (node.dirtyBitmaps.length > 0) node.checkBitmapsWritable(offset);
  if (node.writeThreshold !== 0) node.passThreshold(offset + length);
  const request = node.requests.prepare(offset, length, completion, node);
  let started: Started;
  try {
    const passed = pipe !== undefined && writesFromPipe(node) ? pipe : undefined;
    if (passed === undefined) pipe?.empty(from, at);
    started = driver.startWrite(node, offset, length, from, at, flags, request, passed);
  } catch (error) {
    node.failedToWrite(offset, length);
    throw error;
  }
  return request.started(started);
}

/** Whether it is of use to have the data of startWrite in a pipe, as things are now. */
export function writesFromPipe(node: BlockNode): boolean {
  return node.driver.writesFromPipe?.(node) === true && node.detectZeroes === 'off';
}

/**
 * Makes an area read as zeroes; with NO_FALLBACK it fails with ENOTSUP where it would not be faster than writing. MAY_UNMAP
 * counts whatever the node's `discard` is: the reference asks for that only between nodes (BlockChild), not of an owner.
 */
export function writeZeroes(
  node: BlockNode,
  offset: number,
  length: number,
  flags: RequestFlags = 0,
): MaybePromise<void> {
  checkArea(offset, length, 'write zeroes');
  const unaligned = ((offset | length) & (node.limits.requestAlignment - 1)) !== 0;
  if ((flags & NO_FALLBACK) !== 0 && unaligned) throw notSupported(offset);
  if (!node.writable) throw new IoError(errno.EPERM, { syscall: 'write zeroes', offset });
  if (length === 0) return undefined;
  checkEnd(node, offset, length);
  if (node.dirtyBitmaps.length > 0) node.checkBitmapsWritable(offset);
  if (unaligned) return zeroUnaligned(node, offset, length, flags);
  if (conflicts(node, offset, length)) {
    return trackedAfterConflicts(node, offset, length, () =>
      writeZeroesAligned(node, offset, length, flags),
    );
  }
  return tracked(node, offset, length, writeZeroesAligned(node, offset, length, flags));
}

/**
 * As writeZeroes with NO_FALLBACK, for an aligned area that nobody may be using: while it lasts nobody is let in. Fails with
 * EBUSY when somebody is there.
 */
export async function writeZeroesAlone(
  node: BlockNode,
  offset: number,
  length: number,
): Promise<void> {
  checkArea(offset, length, 'write zeroes');
  if (!node.writable) throw new IoError(errno.EPERM, { syscall: 'write zeroes', offset });
  const { requests } = node;
  if (requests.overlaps(offset, offset + length)) {
    throw new IoError(errno.EBUSY, { syscall: 'write zeroes', offset });
  }
  const request = requests.begin(offset, length);
  try {
    await requests.serialise(request, 1);
    await writeZeroesAligned(node, offset, length, NO_FALLBACK);
  } finally {
    requests.end(request);
  }
}

/** Tells the node that an area's content does not matter any more. Ignored where the driver or the settings cannot do it. */
export function discard(node: BlockNode, offset: number, length: number): MaybePromise<void> {
  checkArea(offset, length, 'discard');
  return discardArea(node, offset, length);
}

/** A driver may be asked for the area as it is: nothing has to be widened, split or waited for. */
function isPlain(node: BlockNode, offset: number, length: number): boolean {
  const { requestAlignment, maxTransfer } = node.limits;
  return (
    length > 0 &&
    ((offset | length) & (requestAlignment - 1)) === 0 &&
    (maxTransfer === 0 || length <= maxTransfer) &&
    !conflicts(node, offset, length)
  );
}

/** Rejects areas that no node can have. */
function checkArea(offset: number, length: number, what: string): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= Number.MAX_SAFE_INTEGER)) {
    throw new IoError(errno.EIO, { syscall: what, offset });
  }
}

function checkTransfer(
  offset: number,
  length: number,
  buffer: IoBuffer,
  at: number,
  what: string,
): void {
  checkArea(offset, length, what);
  if (length > MAX_REQUEST) throw new IoError(errno.EIO, { syscall: what, offset });
  // Drivers hand `address + at` to the kernel: a wrong place must not get that far.
  if (!(at >= 0 && at + length <= buffer.bytes.length)) {
    throw new RangeError(
      `${what} of ${length} bytes at ${at} of a ${buffer.bytes.length} byte buffer`,
    );
  }
}
