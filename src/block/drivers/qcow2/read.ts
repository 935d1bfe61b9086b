// Reading: from the file where the data are, from the backing file where they are not, zeroes, or decompressed.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import { checkDecompressed } from './compression.ts';
import { checkUsable } from './corruption.ts';
import type { Qcow2Image } from './image.ts';
import {
  COMPRESSED,
  DATA,
  emptyMapping,
  type Mapping,
  map,
  mapCached,
  ZERO,
  ZERO_AT,
} from './mapping.ts';

/** How many parts of one request are read at the same time. */
const PARALLEL = 8;

/** Reads guest data. Without waiting, and without an object, where the L2 table is cached and the file answers at once. */
export function read(
  image: Qcow2Image,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): MaybePromise<void> {
  checkUsable(image);
  const mapping = image.scratchMapping;
  for (let done = 0; done < length; ) {
    if (!mapCached(image, offset + done, length - done, mapping)) {
      return readParts(image, offset + done, length - done, into, at + done);
    }
    const part = mapping.length;
    const later = readMapped(image, mapping, offset + done, into, at + done);
    done += part;
    if (later !== undefined) {
      if (done === length) return later;
      return alongside(later, readParts(image, offset + done, length - done, into, at + done));
    }
  }
  return undefined;
}

/** Several parts at a time, each found when its turn comes. */
async function readParts(
  image: Qcow2Image,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
): Promise<void> {
  const mapping = emptyMapping();
  const running: Promise<void>[] = [];
  try {
    for (let done = 0; done < length; ) {
      await map(image, offset + done, length - done, mapping);
      const later = readMapped(image, mapping, offset + done, into, at + done);
      done += mapping.length;
      if (later === undefined) continue;
      running.push(later);
      // A part that fails is seen when it is awaited below.
      later.catch(() => {});
      if (running.length >= PARALLEL) await running.shift();
    }
  } finally {
    // The memory is the caller's again once this is over.
    await Promise.allSettled(running);
  }
  await Promise.all(running);
}

async function alongside(first: Promise<void>, rest: Promise<void>): Promise<void> {
  const results = await Promise.allSettled([first, rest]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** Reads `mapping.length` bytes that are of one kind. */
function readMapped(
  image: Qcow2Image,
  mapping: Mapping,
  offset: number,
  into: IoBuffer,
  at: number,
): MaybePromise<void> {
  const { kind, length } = mapping;
  if (kind === DATA) {
    image.file.debugEvent('read_aio');
    return image.dataFile.read(mapping.hostOffset, length, into, at);
  }
  if (kind === COMPRESSED) return readCompressed(image, { ...mapping }, offset, into, at);
  if (kind === ZERO || kind === ZERO_AT) {
    into.bytes.fill(0, at, at + length);
    return undefined;
  }
  const { backing } = image.node;
  if (backing === undefined) {
    into.bytes.fill(0, at, at + length);
    return undefined;
  }
  image.file.debugEvent('read_backing_aio');
  return backing.read(offset, length, into, at);
}

async function readCompressed(
  image: Qcow2Image,
  mapping: Mapping,
  offset: number,
  into: IoBuffer,
  at: number,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const { hostOffset, compressedLength, length } = mapping;
  if (hostOffset + compressedLength > Number.MAX_SAFE_INTEGER) {
    throw new IoError(errno.EIO, { syscall: 'read', offset });
  }
  const buffer = image.node.pool.take(compressedLength);
  image.file.debugEvent('read_compressed');
  await image.file.read(hostOffset, compressedLength, buffer, 0);
  const compressed = buffer.bytes.subarray(0, compressedLength);
  const found = await image.decompress(compressed, clusterSize);
  image.node.pool.give(buffer);
  if (found === undefined) {
    // A write may have replaced the cluster meanwhile, and another one its sectors.
    const now = emptyMapping();
    await map(image, offset, length, now);
    if (now.kind !== COMPRESSED || now.hostOffset !== hostOffset) {
      return read(image, offset, length, into, at);
    }
  }
  const content = checkDecompressed(found);
  const from = offset % clusterSize;
  content.copy(into.bytes, at, from, from + length);
}
