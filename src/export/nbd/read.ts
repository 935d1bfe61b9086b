// NBD_CMD_READ. Data are read straight behind their reply header in the output. Structured replies are sparse, as the
// reference makes them: one chunk for each extent of the range, holes without their zeroes.

import { errno, strerror } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { BLOCK_ZERO, type BlockStatus } from '../../block/block-driver.ts';
import { type Completion, type Outcome, promised, type Started } from '../../block/completion.ts';
import { whenDone } from '../../block/maybe-promise.ts';
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  OFFSET_DATA_SIZE,
  SIMPLE_REPLY_SIZE,
} from '../../net/nbd/protocol.ts';
import { chunkSizeOf, type NbdRequest } from '../../net/nbd/wire.ts';
import { headData } from './late-data.ts';
import { nextTurn } from './meta-context.ts';
import { replyHole, replyNone } from './reply.ts';
import { CommandError, type Session } from './session.ts';

/** From this length on data begin on a page boundary: copies are faster, and direct I/O needs no bounce buffer. */
const ALIGN_FROM = 64 * 1024;

/** From this length on it pays to ask whether the kernel can send the data from the page cache, without a copy of them. */
const CACHED_FROM = 64 * 1024;
/** More than a socket takes at a time would be copied after all, and at once: that is the thread pool's work. */
const CACHED_TO = 1024 * 1024;

/** Chunks of one sparse reply that are made before others get their turn. */
const CHUNKS_PER_TURN = 64;

/** Replies to a read. Fails with IoError or CommandError. */
export function read(session: Session, request: NbdRequest): Outcome {
  if ((request.flags & NBD_CMD_FLAG_FUA) !== 0) return readDurable(session, request);
  return readNow(session, request, session.underWay);
}

function readNow(session: Session, request: NbdRequest, completion: Completion): Outcome {
  if (session.structuredReply) {
    if (request.length === 0) return replyNone(session, request);
    if ((request.flags & NBD_CMD_FLAG_DF) === 0) return readSparse(session, request, completion);
  }
  return readData(session, request, request.offset, request.length, completion);
}

/** With FUA: what is read must be on stable storage first. The protocol does not say so; the reference does it. */
async function readDurable(session: Session, request: NbdRequest): Promise<void> {
  try {
    await session.backend.flush();
  } catch (error) {
    if (error instanceof IoError) throw new CommandError(error.errno, 'flush failed');
    throw error;
  }
  await promised((completion) => readNow(session, request, completion));
}

/** The data of a simple reply, or one chunk of them, the last of its reply when it ends where the request does. */
function readData(
  session: Session,
  request: NbdRequest,
  offset: number,
  length: number,
  completion: Completion,
): Started {
  const { output, lateData } = session;
  const header = session.structuredReply
    ? chunkSizeOf(request) + OFFSET_DATA_SIZE
    : SIMPLE_REPLY_SIZE;
  const size = header + length;
  if (length >= CACHED_FROM && length <= CACHED_TO) {
    const head = (buffer: IoBuffer, at: number): void =>
      headData(session, request, { buffer, at, offset, length });
    if (session.sendCached({ offset, length }, header, head)) return 'done';
  }
  const at = length < ALIGN_FROM ? output.reserve(size) : output.reserveAligned(header, size);
  const { buffer } = output;
  if (length > 0) {
    const late = lateData.take(request, offset, length, completion);
    if (session.backend.startRead(offset, length, buffer, at + header, late, late) === 'later') {
      late.region = output.defer(size);
      return 'later';
    }
    lateData.takeBack(late);
  }
  headData(session, request, { buffer, at, offset, length });
  output.commit(size);
  return 'done';
}

function readSparse(session: Session, request: NbdRequest, completion: Completion): Outcome {
  const { offset, length } = request;
  if (session.dataRanges.covers(offset, length)) {
    return readData(session, request, offset, length, completion);
  }
  const status = statusFrom(session, offset);
  if (!(status instanceof Promise) && status.length >= length) {
    return readExtent(session, request, { offset, length, status: status.status }, completion);
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

/** The chunk for what a block status says of a part. */
function readExtent(
  session: Session,
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number; readonly status: number },
  completion: Completion,
): Started {
  const { offset, length, status } = part;
  if ((status & BLOCK_ZERO) === 0) return readData(session, request, offset, length, completion);
  replyHole(session, request, { offset, length });
  return 'done';
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
    // The node has become shorter than it was when it was exported.
    if (status.length === 0) throw new IoError(errno.EIO, { syscall: 'read', offset });
    const length = Math.min(status.length, end - offset);
    const part = { offset, length, status: status.status };
    await promised((completion) => readExtent(session, request, part, completion));
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
