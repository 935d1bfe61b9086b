// Replies of the transmission phase, written into a connection's output.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import {
  BLOCK_STATUS_EXT_SIZE,
  BLOCK_STATUS_SIZE,
  ERROR_SIZE,
  EXTENDED_EXTENT_SIZE,
  EXTENT_SIZE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SUCCESS,
  OFFSET_DATA_SIZE,
  OFFSET_HOLE_SIZE,
  SIMPLE_REPLY_SIZE,
} from '../../net/nbd/protocol.ts';
import {
  chunkSizeOf,
  encodeChunk,
  encodeSimpleReply,
  type NbdRequest,
  putU64,
  spellCookie,
} from '../../net/nbd/wire.ts';
import type { Output } from './output.ts';

/** Where replies go. */
export interface ReplyTarget {
  readonly output: Output;
  readonly trace: Trace;
}

/** "Done", without data. The reference answers so even when structured replies were negotiated; extended ones have no such. */
export function replyDone(target: ReplyTarget, request: NbdRequest): void {
  if (request.extended) {
    replyNone(target, request);
    return;
  }
  const { output, trace } = target;
  const at = output.reserve(SIMPLE_REPLY_SIZE);
  encodeSimpleReply(output.buffer.view, at, request, NBD_SUCCESS);
  if (trace.nbd_co_send_simple_reply.enabled) {
    trace.nbd_co_send_simple_reply.log({ cookie: spellCookie(request), error: NBD_SUCCESS });
  }
  output.commit(SIMPLE_REPLY_SIZE);
}

/** An error; the text goes along only in a structured reply. */
export function replyError(
  { output, trace }: ReplyTarget,
  request: NbdRequest,
  error: { readonly wireError: number; readonly text: string; readonly structured: boolean },
): void {
  const { wireError, text: message } = error;
  if (!error.structured) {
    trace.nbd_co_send_simple_reply.log({ cookie: spellCookie(request), error: wireError });
    const at = output.reserve(SIMPLE_REPLY_SIZE);
    encodeSimpleReply(output.buffer.view, at, request, wireError);
    output.commit(SIMPLE_REPLY_SIZE);
    return;
  }
  trace.nbd_co_send_structured_error.log({
    cookie: spellCookie(request),
    error: wireError,
    message,
  });
  const text = Buffer.from(message);
  const header = chunkSizeOf(request);
  const length = ERROR_SIZE + text.length;
  const at = output.reserve(header + length);
  const { view, bytes } = output.buffer;
  encodeChunk(view, at, request, { type: NBD_REPLY_TYPE_ERROR, length, done: true });
  view.setUint32(at + header, wireError);
  view.setUint16(at + header + 4, text.length);
  text.copy(bytes, at + header + ERROR_SIZE);
  output.commit(header + length);
}

/** The end of a structured reply that has no data. */
export function replyNone({ output, trace }: ReplyTarget, request: NbdRequest): void {
  if (trace.nbd_co_send_structured_done.enabled) {
    trace.nbd_co_send_structured_done.log({ cookie: spellCookie(request) });
  }
  const size = chunkSizeOf(request);
  const at = output.reserve(size);
  encodeChunk(output.buffer.view, at, request, {
    type: NBD_REPLY_TYPE_NONE,
    length: 0,
    done: true,
  });
  output.commit(size);
}

/** Writes the header of a simple reply in front of data that were read. */
export function headSimpleData(
  { trace }: ReplyTarget,
  request: NbdRequest,
  place: { readonly buffer: IoBuffer; readonly at: number },
): void {
  encodeSimpleReply(place.buffer.view, place.at, request, NBD_SUCCESS);
  if (trace.nbd_co_send_simple_reply.enabled) {
    const { length } = request;
    trace.nbd_co_send_simple_reply.log({
      cookie: spellCookie(request),
      error: NBD_SUCCESS,
      length,
    });
  }
}

/** Writes the header of a chunk in front of a part of the data that were read. */
export function headDataChunk(
  { trace }: ReplyTarget,
  request: NbdRequest,
  part: {
    readonly buffer: IoBuffer;
    readonly at: number;
    readonly offset: number;
    readonly length: number;
  },
): void {
  const { buffer, at, offset, length } = part;
  encodeChunk(buffer.view, at, request, {
    type: NBD_REPLY_TYPE_OFFSET_DATA,
    length: OFFSET_DATA_SIZE + length,
    done: isLast(request, part),
  });
  putU64(buffer.view, at + chunkSizeOf(request), offset);
  if (trace.nbd_co_send_structured_read.enabled) {
    trace.nbd_co_send_structured_read.log({ cookie: spellCookie(request), offset, length });
  }
}

/** A part of what was read that is all zeroes. */
export function replyHole(
  { output, trace }: ReplyTarget,
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number },
): void {
  if (trace.nbd_co_send_structured_read_hole.enabled) {
    const cookie = spellCookie(request);
    trace.nbd_co_send_structured_read_hole.log({ cookie, ...part });
  }
  const header = chunkSizeOf(request);
  const at = output.reserve(header + OFFSET_HOLE_SIZE);
  const { view } = output.buffer;
  encodeChunk(view, at, request, {
    type: NBD_REPLY_TYPE_OFFSET_HOLE,
    length: OFFSET_HOLE_SIZE,
    done: isLast(request, part),
  });
  putU64(view, at + header, part.offset);
  view.setUint32(at + header + 8, part.length);
  output.commit(header + OFFSET_HOLE_SIZE);
}

/** The extents of one context. */
export function replyExtents(
  { output, trace }: ReplyTarget,
  request: NbdRequest,
  chunk: StatusChunk,
): void {
  const { extents } = chunk;
  if (trace.nbd_co_send_extents.enabled) {
    const { contextId, done } = chunk;
    const cookie = spellCookie(request);
    trace.nbd_co_send_extents.log({ cookie, extents: extents.length, contextId, done });
  }
  const header = chunkSizeOf(request);
  const length = request.extended
    ? BLOCK_STATUS_EXT_SIZE + extents.length * EXTENDED_EXTENT_SIZE
    : BLOCK_STATUS_SIZE + extents.length * EXTENT_SIZE;
  const at = output.reserve(header + length);
  const { view } = output.buffer;
  encodeChunk(view, at, request, {
    type: request.extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS,
    length,
    done: chunk.done,
  });
  if (request.extended) putExtendedExtents(view, at + header, chunk);
  else putExtents(view, at + header, chunk);
  output.commit(header + length);
}

interface StatusChunk {
  readonly contextId: number;
  readonly extents: readonly { readonly length: number; readonly flags: number }[];
  readonly done: boolean;
}

//   [ 0 ..  3]  context id
//   [ 4 ..   ]  extents     length and flags, four bytes each
function putExtents(view: DataView, at: number, { contextId, extents }: StatusChunk): void {
  view.setUint32(at, contextId);
  let place = at + BLOCK_STATUS_SIZE;
  for (const extent of extents) {
    view.setUint32(place, extent.length);
    view.setUint32(place + 4, extent.flags);
    place += EXTENT_SIZE;
  }
}

//   [ 0 ..  3]  context id
//   [ 4 ..  7]  number of extents
//   [ 8 ..   ]  extents     length and flags, eight bytes each
function putExtendedExtents(view: DataView, at: number, { contextId, extents }: StatusChunk): void {
  view.setUint32(at, contextId);
  view.setUint32(at + 4, extents.length);
  let place = at + BLOCK_STATUS_EXT_SIZE;
  for (const extent of extents) {
    putU64(view, place, extent.length);
    putU64(view, place + 8, extent.flags);
    place += EXTENDED_EXTENT_SIZE;
  }
}

/** Whether a part ends where the request does: its chunk is the last. */
function isLast(
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number },
): boolean {
  return part.offset + part.length === request.offset + request.length;
}
