// NBD_CMD_READ. Data are read straight behind their reply header in the output. Structured replies are sparse, as the
// reference makes them: one chunk for each extent of the range, holes without their zeroes.

import { strerror } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { BLOCK_ZERO, type BlockStatus } from '../../block/block-driver.ts';
import { whenDone } from '../../block/maybe-promise.ts';
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  OFFSET_DATA_SIZE,
  SIMPLE_REPLY_SIZE,
} from '../../net/nbd/protocol.ts';
import { chunkSizeOf, type NbdRequest } from '../../net/nbd/wire.ts';
import { nextTurn } from './meta-context.ts';
import { headDataChunk, headSimpleData, replyHole, replyNone } from './reply.ts';
import { CommandError, type Session } from './session.ts';

/** From this length on data begin on a page boundary: copies are faster, and direct I/O needs no bounce buffer. */
const ALIGN_FROM = 64 * 1024;

/** From this length on it pays to ask whether the kernel can send the data from the page cache, without a copy of them. */
const CACHED_FROM = 64 * 1024;
/** More than a socket takes at a time would be copied after all, and at once: that is the thread pool's work. */
const CACHED_TO = 1024 * 1024;

/** Chunks of one sparse reply that are made before others get their turn. */
const CHUNKS_PER_TURN = 64;

/** Replies to a read. Throws or rejects IoError or CommandError. */
export function read(session: Session, request: NbdRequest): MaybePromise<void> {
  if ((request.flags & NBD_CMD_FLAG_FUA) !== 0) return readDurable(session, request);
  return readNow(session, request);
}

function readNow(session: Session, request: NbdRequest): MaybePromise<void> {
  if (!session.structuredReply) return readSimple(session, request);
  if (request.length === 0) return replyNone(session, request);
  if ((request.flags & NBD_CMD_FLAG_DF) !== 0) {
    return readChunk(session, request, request.offset, request.length);
  }
  return readSparse(session, request);
}

/** With FUA: what is read must be on stable storage first. The protocol does not say so; the reference does it. */
async function readDurable(session: Session, request: NbdRequest): Promise<void> {
  try {
    await session.backend.flush();
  } catch (error) {
    if (error instanceof IoError) throw new CommandError(error.errno, 'flush failed');
    throw error;
  }
  await readNow(session, request);
}

function readSimple(session: Session, request: NbdRequest): MaybePromise<void> {
  const { output } = session;
  const { length } = request;
  const size = SIMPLE_REPLY_SIZE + length;
  if (length >= CACHED_FROM && length <= CACHED_TO) {
    const head = (buffer: IoBuffer, at: number): void =>
      headSimpleData(session, request, { buffer, at });
    if (session.sendCached(request, SIMPLE_REPLY_SIZE, head)) return undefined;
  }
  const at =
    length < ALIGN_FROM ? output.reserve(size) : output.reserveAligned(SIMPLE_REPLY_SIZE, size);
  const { buffer } = output;
  if (length > 0) {
    const later = session.backend.read(request.offset, length, buffer, at + SIMPLE_REPLY_SIZE);
    if (later !== undefined) {
      const region = output.defer(size);
      return later.then(
        () => {
          headSimpleData(session, request, { buffer, at });
          output.complete(region);
        },
        (error: unknown) => {
          output.abandon(region);
          throw error;
        },
      );
    }
  }
  headSimpleData(session, request, { buffer, at });
  output.commit(size);
  return undefined;
}

/** One chunk of data, the last of its reply when it ends where the request does. */
function readChunk(
  session: Session,
  request: NbdRequest,
  offset: number,
  length: number,
): MaybePromise<void> {
  const { output } = session;
  const header = chunkSizeOf(request) + OFFSET_DATA_SIZE;
  const size = header + length;
  if (length >= CACHED_FROM && length <= CACHED_TO) {
    const head = (buffer: IoBuffer, at: number): void =>
      headDataChunk(session, request, { buffer, at, offset, length });
    if (session.sendCached({ offset, length }, header, head)) return undefined;
  }
  const at = length < ALIGN_FROM ? output.reserve(size) : output.reserveAligned(header, size);
  const { buffer } = output;
  const later = session.backend.read(offset, length, buffer, at + header);
  if (later === undefined) {
    headDataChunk(session, request, { buffer, at, offset, length });
    output.commit(size);
    return undefined;
  }
  const region = output.defer(size);
  return later.then(
    () => {
      headDataChunk(session, request, { buffer, at, offset, length });
      output.complete(region);
    },
    (error: unknown) => {
      output.abandon(region);
      throw error;
    },
  );
}

function readSparse(session: Session, request: NbdRequest): MaybePromise<void> {
  const { offset, length } = request;
  if (session.dataRanges.covers(offset, length)) {
    return readChunk(session, request, offset, length);
  }
  const status = statusFrom(session, offset);
  if (!(status instanceof Promise) && status.length >= length) {
    return readExtent(session, request, offset, status);
  }
  return readExtents(session, request, status);
}

/** What lies at `offset`, and how far it goes, be it beyond the request. */
function statusFrom(session: Session, offset: number): MaybePromise<BlockStatus> {
  const { dataRanges } = session;
  const askedAt = dataRanges.now;
  try {
    return whenDone(session.backend.blockStatus(offset, session.size - offset), (status) => {
      dataRanges.learn(offset, status, askedAt);
      return status;
    });
  } catch (error) {
    throw statusError(error);
  }
}

/** The chunk for what a block status says about the range from `offset` on. */
function readExtent(
  session: Session,
  request: NbdRequest,
  offset: number,
  status: BlockStatus,
): MaybePromise<void> {
  const length = Math.min(status.length, request.offset + request.length - offset);
  if ((status.status & BLOCK_ZERO) === 0) return readChunk(session, request, offset, length);
  replyHole(session, request, { offset, length });
  return undefined;
}

async function readExtents(
  session: Session,
  request: NbdRequest,
  first: MaybePromise<BlockStatus>,
): Promise<void> {
  const end = request.offset + request.length;
  let next = first;
  for (let offset = request.offset, chunks = 1; ; chunks++) {
    let status: BlockStatus;
    try {
      status = await next;
    } catch (error) {
      throw statusError(error);
    }
    await readExtent(session, request, offset, status);
    offset += status.length;
    if (offset >= end) return;
    if (chunks % CHUNKS_PER_TURN === 0) await nextTurn();
    await session.room();
    next = statusFrom(session, offset);
  }
}

function statusError(error: unknown): unknown {
  if (!(error instanceof IoError)) return error;
  return new CommandError(error.errno, `unable to check for holes: ${strerror(error.errno)}`);
}
