// Replies of the transmission phase, written into a connection's output.

import type { IoBuffer } from '../../base/io-buffer.ts';
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
import { encodeChunk, encodeSimpleReply, type NbdRequest, putU64 } from './wire.ts';

/** "Done", without data. The reference answers so even when structured replies were negotiated. */
export function replyDone(output: Output, request: NbdRequest): void {
  const at = output.reserve(SIMPLE_REPLY_SIZE);
  encodeSimpleReply(output.buffer.view, at, request, NBD_SUCCESS);
  output.commit(SIMPLE_REPLY_SIZE);
}

/** An error; the text goes along only in a structured reply. */
export function replyError(
  output: Output,
  request: NbdRequest,
  error: { readonly wireError: number; readonly text: string; readonly structured: boolean },
): void {
  if (!error.structured) {
    const at = output.reserve(SIMPLE_REPLY_SIZE);
    encodeSimpleReply(output.buffer.view, at, request, error.wireError);
    output.commit(SIMPLE_REPLY_SIZE);
    return;
  }
  const text = Buffer.from(error.text);
  const at = output.reserve(ERROR_CHUNK_SIZE + text.length);
  const { view, bytes } = output.buffer;
  const length = ERROR_CHUNK_SIZE - CHUNK_SIZE + text.length;
  encodeChunk(view, at, request, { type: NBD_REPLY_TYPE_ERROR, length, done: true });
  view.setUint32(at + CHUNK_SIZE, error.wireError);
  view.setUint16(at + CHUNK_SIZE + 4, text.length);
  text.copy(bytes, at + ERROR_CHUNK_SIZE);
  output.commit(ERROR_CHUNK_SIZE + text.length);
}

/** The end of a structured reply that has no data. */
export function replyNone(output: Output, request: NbdRequest): void {
  const at = output.reserve(CHUNK_SIZE);
  encodeChunk(output.buffer.view, at, request, {
    type: NBD_REPLY_TYPE_NONE,
    length: 0,
    done: true,
  });
  output.commit(CHUNK_SIZE);
}

/** A part of what was read: header of `length` bytes of data that lie behind it. */
export function encodeDataHeader(
  buffer: IoBuffer,
  at: number,
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number; readonly done: boolean },
): void {
  encodeChunk(buffer.view, at, request, {
    type: NBD_REPLY_TYPE_OFFSET_DATA,
    length: OFFSET_DATA_SIZE - CHUNK_SIZE + part.length,
    done: part.done,
  });
  putU64(buffer.view, at + CHUNK_SIZE, part.offset);
}

/** A part of what was read that is all zeroes. */
export function replyHole(
  output: Output,
  request: NbdRequest,
  part: { readonly offset: number; readonly length: number; readonly done: boolean },
): void {
  const at = output.reserve(OFFSET_HOLE_SIZE);
  const { view } = output.buffer;
  encodeChunk(view, at, request, {
    type: NBD_REPLY_TYPE_OFFSET_HOLE,
    length: OFFSET_HOLE_SIZE - CHUNK_SIZE,
    done: part.done,
  });
  putU64(view, at + CHUNK_SIZE, part.offset);
  view.setUint32(at + CHUNK_SIZE + 8, part.length);
  output.commit(OFFSET_HOLE_SIZE);
}

/** The extents of one context. */
export function replyExtents(
  output: Output,
  request: NbdRequest,
  chunk: {
    readonly contextId: number;
    readonly extents: readonly { readonly length: number; readonly flags: number }[];
    readonly done: boolean;
  },
): void {
  const { extents } = chunk;
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
