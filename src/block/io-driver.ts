// One write by a driver, and requests in flight: what the other parts of the request path stand on.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type { RequestFlags } from './block-driver.ts';
import { FUA, PERM_RESIZE, WRITE_COMPRESSED } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { flush } from './io-flush.ts';

/** Largest single read or write, 2 GiB less one sector as in the reference. Zeroes and discards have no limit. */
export const MAX_REQUEST = 2 ** 31 - 512;

/** Throws IoError for a write beyond the end of a node whose users may not resize it. */
export function checkEnd(node: BlockNode, offset: number, length: number): void {
  if ((node.perm & PERM_RESIZE) !== 0 || offset + length <= node.length) return;
  throw new IoError(errno.EIO, { syscall: 'write', offset });
}

/** One write by the driver, FUA emulated where it has none. */
export function driverWrite(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
): MaybePromise<void> {
  const { driver, supportedWriteFlags } = node;
  if ((flags & WRITE_COMPRESSED) !== 0) {
    const compressed = writeCompressed(node, offset, length, from, at);
    return (flags & FUA) === 0 ? compressed : flushAfter(node, compressed);
  }
  if (driver.write === undefined) throw new IoError(errno.ENOTSUP, { syscall: 'write', offset });
  const later = driver.write(node, offset, length, from, at, flags & supportedWriteFlags);
  if ((flags & FUA & ~supportedWriteFlags) === 0) return later;
  return flushAfter(node, later);
}

function writeCompressed(
  node: BlockNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
): MaybePromise<void> {
  const { driver } = node;
  if (driver.writeCompressed === undefined) {
    throw new IoError(errno.ENOTSUP, { syscall: 'write', offset });
  }
  return driver.writeCompressed(node, offset, length, from, at);
}

/** Counts `done` as a request in flight on the area. */
export async function tracked(
  node: BlockNode,
  offset: number,
  length: number,
  done: Promise<void>,
): Promise<void> {
  const request = node.requests.begin(offset, length);
  try {
    await done;
  } finally {
    node.requests.end(request);
  }
}

/** Counts `done` as in flight, without an area. */
export async function inFlight<T>(node: BlockNode, done: Promise<T>): Promise<T> {
  node.requests.enter();
  try {
    return await done;
  } finally {
    node.requests.leave();
  }
}

/** As tracked, but starts only when nothing that serialises overlaps the area. */
export async function trackedAfterConflicts(
  node: BlockNode,
  offset: number,
  length: number,
  start: () => MaybePromise<void>,
): Promise<void> {
  const request = node.requests.begin(offset, length);
  try {
    await node.requests.waitForConflicts(request);
    await start();
  } finally {
    node.requests.end(request);
  }
}

/** True when the area overlaps a request that serialises. */
export function conflicts(node: BlockNode, offset: number, length: number): boolean {
  return node.requests.serialising !== 0 && node.requests.hasConflict(offset, offset + length);
}

/** True when a driver said that it cannot do this, or not this way. */
export function isNotSupported(error: unknown): boolean {
  return error instanceof IoError && error.errno === errno.ENOTSUP;
}

export function alignedDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

export function alignedUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

async function flushAfter(node: BlockNode, later: MaybePromise<void>): Promise<void> {
  await later;
  // The flush must not take this write for one that is flushed already.
  node.writeGeneration++;
  await flush(node);
}
