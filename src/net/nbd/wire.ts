// NBD structures, bytes to values and back. No sockets, no policy: a decoder gives a value or a ProtocolError that names the
// field, an encoder writes at a place where its caller has made room.

import type { DataPipe } from '../../base/data-pipe.ts';
import { ProtocolError } from '../../base/errors.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import {
  CHUNK_SIZE,
  CONTEXT_ID_SIZE,
  EXTENDED_CHUNK_SIZE,
  GREETING_SIZE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_MAGIC,
  NBD_OPTS_MAGIC,
  NBD_REP_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  OPTION_REPLY_SIZE,
  STATUS_PAYLOAD_SIZE,
} from './protocol.ts';

const TWO_TO_32 = 2 ** 32;

/** One request's header. An object is used again for the next request, so take out of it what must last. */
export class NbdRequest {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  /** Bytes. Above 2^53 it is rounded, which keeps it in order: enough to refuse it. */
  offset = 0;
  /** Bytes. With extended headers 64 bits wide, and rounded like the offset. */
  length = 0;
  /** Its header, and so those of its replies, are the extended ones. The next two are for them only. */
  extended = false;
  lengthHigh = 0;
  lengthLow = 0;
  /** The metadata contexts that NBD_CMD_BLOCK_STATUS asks for; empty when its payload is wrong, undefined without one. */
  contextIds: readonly number[] | undefined = undefined;
  /** Where its payload (the data of NBD_CMD_WRITE) lies once it is received: at `payloadAt` in `payload`. */
  payload: IoBuffer | undefined = undefined;
  payloadAt = 0;
  /** Where the data are instead, when they are not in memory. */
  pipe: DataPipe | undefined = undefined;
}

/** An unsigned 64-bit field as a number; exact up to 2^53, in order above. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
}

/** Writes a non-negative safe integer as an unsigned 64-bit field. */
export function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value >>> 0);
}

//   [ 0 ..  3]  magic    NBD_REQUEST_MAGIC
//   [ 4 ..  5]  flags    NBD_CMD_FLAG_*
//   [ 6 ..  7]  type     NBD_CMD_*
//   [ 8 .. 15]  cookie   opaque, echoed in every reply
//   [16 .. 23]  offset
//   [24 .. 27]  length
/**
 * Decodes the header of a request. All fields are filled in before a wrong magic is thrown, because the reference answers
 * such a request, with its cookie, before it hangs up.
 */
export function decodeRequest(view: DataView, at: number, into: NbdRequest): void {
  into.flags = view.getUint16(at + 4);
  into.type = view.getUint16(at + 6);
  into.cookieHigh = view.getUint32(at + 8);
  into.cookieLow = view.getUint32(at + 12);
  const high = view.getUint32(at + 16);
  const low = view.getUint32(at + 20);
  into.offsetHigh = high;
  into.offsetLow = low;
  into.offset = high * TWO_TO_32 + low;
  into.length = view.getUint32(at + 24);
  const magic = view.getUint32(at);
  if (magic !== NBD_REQUEST_MAGIC) {
    throw new ProtocolError('request magic', magic, NBD_REQUEST_MAGIC);
  }
}

//   [ 0 ..  3]  magic    NBD_EXTENDED_REQUEST_MAGIC
//   [ 4 ..  5]  flags    NBD_CMD_FLAG_*
//   [ 6 ..  7]  type     NBD_CMD_*
//   [ 8 .. 15]  cookie   opaque, echoed in every reply
//   [16 .. 23]  offset   echoed in every reply
//   [24 .. 31]  length   of the payload with NBD_CMD_FLAG_PAYLOAD_LEN, otherwise of the range
/** Decodes an extended header; as decodeRequest does, it fills in all fields before it throws. */
export function decodeExtendedRequest(view: DataView, at: number, into: NbdRequest): void {
  into.extended = true;
  into.contextIds = undefined;
  into.flags = view.getUint16(at + 4);
  into.type = view.getUint16(at + 6);
  into.cookieHigh = view.getUint32(at + 8);
  into.cookieLow = view.getUint32(at + 12);
  into.offsetHigh = view.getUint32(at + 16);
  into.offsetLow = view.getUint32(at + 20);
  into.offset = into.offsetHigh * TWO_TO_32 + into.offsetLow;
  setExtendedLength(into, view.getUint32(at + 24), view.getUint32(at + 28));
  const magic = view.getUint32(at);
  if (magic !== NBD_EXTENDED_REQUEST_MAGIC) {
    throw new ProtocolError('request magic', magic, NBD_EXTENDED_REQUEST_MAGIC);
  }
}

//   [ 0 ..  7]  length   bytes of the range that is asked about
//   [ 8 ..   ]  ids      four bytes for each metadata context
/** Decodes the payload of a status request: its range into the request, and the ids as they are. */
export function decodeStatusPayload(view: DataView, at: number, into: NbdRequest): number[] {
  const end = at + into.length;
  setExtendedLength(into, view.getUint32(at), view.getUint32(at + 4));
  const ids: number[] = [];
  for (let place = at + STATUS_PAYLOAD_SIZE; place < end; place += CONTEXT_ID_SIZE) {
    ids.push(view.getUint32(place));
  }
  return ids;
}

export function setExtendedLength(request: NbdRequest, high: number, low: number): void {
  request.lengthHigh = high;
  request.lengthLow = low;
  request.length = high * TWO_TO_32 + low;
}

/** The length of a request in decimal, as exactly as spellOffset. */
export function spellLength(request: NbdRequest): string {
  if (!request.extended) return request.length.toString();
  return ((BigInt(request.lengthHigh) << 32n) | BigInt(request.lengthLow)).toString();
}

/** The offset of a request in decimal, exact over the whole 64 bits; for texts. */
export function spellOffset(request: NbdRequest): string {
  return ((BigInt(request.offsetHigh) << 32n) | BigInt(request.offsetLow)).toString();
}

/** The cookie of a request in decimal; for trace points. */
export function spellCookie(request: NbdRequest): string {
  return ((BigInt(request.cookieHigh) << 32n) | BigInt(request.cookieLow)).toString();
}

//   [ 0 ..  3]  magic    NBD_SIMPLE_REPLY_MAGIC
//   [ 4 ..  7]  error    NBD_E*, 0 when the request succeeded
//   [ 8 .. 15]  cookie
export function encodeSimpleReply(
  view: DataView,
  at: number,
  request: NbdRequest,
  error: number,
): void {
  view.setUint32(at, NBD_SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
}

//   [ 0 ..  3]  magic    NBD_STRUCTURED_REPLY_MAGIC
//   [ 4 ..  5]  flags    NBD_REPLY_FLAG_DONE on the last chunk of a reply
//   [ 6 ..  7]  type     NBD_REPLY_TYPE_*
//   [ 8 .. 15]  cookie
//   [16 .. 19]  length   bytes of payload behind this header
/** The header of a chunk, of the kind that goes with the request's; it takes chunkSizeOf(request) bytes. */
export function encodeChunk(
  view: DataView,
  at: number,
  request: NbdRequest,
  chunk: { readonly type: number; readonly length: number; readonly done: boolean },
): void {
  if (request.extended) {
    encodeExtendedChunk(view, at, request, chunk);
    return;
  }
  view.setUint32(at, NBD_STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, chunk.done ? NBD_REPLY_FLAG_DONE : 0);
  view.setUint16(at + 6, chunk.type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  view.setUint32(at + 16, chunk.length);
}

//   [ 0 ..  3]  magic    NBD_EXTENDED_REPLY_MAGIC
//   [ 4 ..  5]  flags    NBD_REPLY_FLAG_DONE on the last chunk of a reply
//   [ 6 ..  7]  type     NBD_REPLY_TYPE_*
//   [ 8 .. 15]  cookie
//   [16 .. 23]  offset   the request's, whatever part of it the chunk is about
//   [24 .. 31]  length   bytes of payload behind this header
function encodeExtendedChunk(
  view: DataView,
  at: number,
  request: NbdRequest,
  chunk: { readonly type: number; readonly length: number; readonly done: boolean },
): void {
  view.setUint32(at, NBD_EXTENDED_REPLY_MAGIC);
  view.setUint16(at + 4, chunk.done ? NBD_REPLY_FLAG_DONE : 0);
  view.setUint16(at + 6, chunk.type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  view.setUint32(at + 16, request.offsetHigh);
  view.setUint32(at + 20, request.offsetLow);
  view.setUint32(at + 24, 0);
  view.setUint32(at + 28, chunk.length);
}

/** Bytes of a chunk's header in a reply to this request. */
export function chunkSizeOf(request: NbdRequest): number {
  return request.extended ? EXTENDED_CHUNK_SIZE : CHUNK_SIZE;
}

//   [ 0 ..  7]  magic    NBD_OPTS_MAGIC
//   [ 8 .. 11]  option   NBD_OPT_*
//   [12 .. 15]  length   bytes of data behind this header
/** Checks the eight bytes in front of an option. */
export function decodeOptionMagic(bytes: Buffer): void {
  const high = bytes.readUInt32BE(0);
  const low = bytes.readUInt32BE(4);
  if (high !== NBD_OPTS_MAGIC.high || low !== NBD_OPTS_MAGIC.low) {
    throw new ProtocolError('option magic', bytes.toString('hex', 0, 8), 'IHAVEOPT');
  }
}

//   [ 0 ..  7]  NBDMAGIC
//   [ 8 .. 15]  NBD_OPTS_MAGIC
//   [16 .. 17]  NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES
/** What a server says first. */
export function encodeGreeting(flags: number): Buffer {
  const bytes = Buffer.alloc(GREETING_SIZE);
  bytes.writeUInt32BE(NBD_MAGIC.high, 0);
  bytes.writeUInt32BE(NBD_MAGIC.low, 4);
  bytes.writeUInt32BE(NBD_OPTS_MAGIC.high, 8);
  bytes.writeUInt32BE(NBD_OPTS_MAGIC.low, 12);
  bytes.writeUInt16BE(flags, 16);
  return bytes;
}

//   [ 0 ..  7]  magic    NBD_REP_MAGIC
//   [ 8 .. 11]  option   the option that this answers
//   [12 .. 15]  type     NBD_REP_*
//   [16 .. 19]  length   bytes of data behind this header
/** One reply to an option, data included. */
export function encodeOptionReply(option: number, type: number, data: Buffer = empty): Buffer {
  const bytes = Buffer.allocUnsafe(OPTION_REPLY_SIZE + data.length);
  bytes.writeUInt32BE(NBD_REP_MAGIC.high, 0);
  bytes.writeUInt32BE(NBD_REP_MAGIC.low, 4);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  data.copy(bytes, OPTION_REPLY_SIZE);
  return bytes;
}

const empty = Buffer.alloc(0);

//   [ 0 ..  7]  size     bytes of the export
//   [ 8 ..  9]  flags    NBD_FLAG_*
//   [10 ..133]  zeroes   unless both sides asked to leave them out
/** The answer to NBD_OPT_EXPORT_NAME, which has no reply header. */
export function encodeExportNameReply(size: number, flags: number, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(noZeroes ? 10 : 134);
  bytes.writeBigUInt64BE(BigInt(size), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}
