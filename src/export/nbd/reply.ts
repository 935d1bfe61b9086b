// Replies of the transmission phase, written into a connection's output.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Trace } from '../../base/trace.ts';
import type { Output } from './output.ts';
import {
  BLOCK_STATUS_SIZE,
  CHUNK_SIZE,
  ERROR_CHUNK_SIZE,
  EXTENT_SIZE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SUCCESS,
  OFFSET_DATA_SIZE,
  OFFSET_HOLE_SIZE,
  SIMPLE_REPLY_SIZE,
} from './protocol.ts';
import { encodeChunk, encodeSimpleReply, type NbdRequest, putU64, spellCookie } from './wire.ts';

/** Where replies go. */
export interface ReplyTarget {
  readonly output: Output;
  readonly trace: Trace;
}

/** "Done", without data. The reference answers so even when structured replies were negotiated. */
export function replyDone({ output, trace }: ReplyTarget, request: NbdRequest): void {
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
  const at = output.reserve(ERROR_CHUNK_SIZE + text.length);
  const { view, bytes } = output.buffer;
  const length = ERROR_CHUNK_SIZE - CHUNK_SIZE + text.length;
  encodeChunk(view, at, request, { type: NBD_REPLY_TYPE_ERROR, length, done: true });
  view.setUint32(at + CHUNK_SIZE, wireError);
  view.setUint16(at + CHUNK_SIZE + 4, text.length);
  text.copy(bytes, at + ERROR_CHUNK_SIZE);
  output.commit(ERROR_CHUNK_SIZE + text.length);
}

/** The end of a structured reply that has no data. */
export function replyNone({ output, trace }: ReplyTarget, request: NbdRequest): void {
  if (trace.nbd_co_send_structured_done.enabled) {
    trace.nbd_co_send_structured_done.log({ cookie: spellCookie(request) });
  }
  const at = output.reserve(CHUNK_SIZE);
  encodeChunk(output.buffer.view, at, request, {
    type: NBD_REPLY_TYPE_NONE,
    length: 0,
    done: true,
  });
  output.commit(CHUNK_SIZE);
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
    length: OFFSET_DATA_SIZE - CHUNK_SIZE + length,
    done: isLast(request, part),
  });
  putU64(buffer.view, at + CHUNK_SIZE, offset);
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
  const at = output.reserve(OFFSET_HOLE_SIZE);
  const { view } = output.buffer;
  encodeChunk(view, at, request, {
    type: NBD_REPLY_TYPE_OFFSET_HOLE,
    length: OFFSET_HOLE_SIZE - CHUNK_SIZE,
    done: isLast(request, part),
  });
  putU64(view, at + CHUNK_SIZE, part.offset);
  view.setUint32(at + CHUNK_SIZE + 8, part.length);
  output.commit(OFFSET_HOLE_SIZE);
}

/** The extents of one context. */
export function replyExtents(
  { output, trace }: ReplyTarget,
  request: NbdRequest,
  chunk: {
    readonly contextId: number;
    readonly extents: readonly { readonly length: number; readonly flags: number }[];
    readonly done: boolean;
  },
): void {
  const { extents } = chunk;
  if (trace.nbd_co_send_extents.enabled) {
    const { contextId, done } = chunk;
    const cookie = spellCookie(request);
    trace.nbd_co_send_extents.log({ cookie, extents: extents.length, contextId, done });
  }
  const size = BLOCK_STATUS_SIZE + extents.length * EXTENT_SIZE;
  const at = output.reserve(size);
  const { view } = output.buffer;
  encodeChunk(view, at, request, {
    type: NBD_REPLY_TYPE_BLOCK_STATUS,
    length: size - CHUNK_SIZE,
    done: chunk.done,
  });
  view.setUint32(at + CHUNK_SIZE, chunk.contextId);
  let place = at + BLOCK_STATUS_SIZE;
  for (const extent of extents) {
    view.setUint32(place, extent.length);
    view.setUint32(place + 4, extent.flags);
    place += EXTENT_SIZE;
  }
  output.commit(size);
}

/** Whether a part ends where the request does: its chunk is the last. */
function isLast(
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number },
): boolean {
  return part.offset + part.length === request.offset + request.length;
}
