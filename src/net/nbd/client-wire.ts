// The client's half of the NBD structures: requests and options, values to bytes, and the headers of replies, bytes to values.
// Pure, as wire.ts.

import {
  CHUNK_SIZE,
  EXTENDED_CHUNK_SIZE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_OPTS_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  OPTION_SIZE,
  SIMPLE_REPLY_SIZE,
} from './protocol.ts';
import { putU64, u64 } from './wire.ts';

/** What stands in the header of a request. */
export interface RequestHeader {
  readonly flags: number;
  readonly type: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
}

//   [ 0 ..  3]  magic    NBD_REQUEST_MAGIC
//   [ 4 ..  5]  flags    NBD_CMD_FLAG_*
//   [ 6 ..  7]  type     NBD_CMD_*
//   [ 8 .. 15]  cookie
//   [16 .. 23]  offset
//   [24 .. 27]  length   [24 .. 31] with extended headers
/** Writes a header: REQUEST_SIZE bytes, or EXTENDED_REQUEST_SIZE. */
export function encodeRequest(
  view: DataView,
  at: number,
  request: RequestHeader,
  extended: boolean,
): void {
  view.setUint32(at, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
  // What follows the header of a write is a payload, and not the size of a range.
  const isPayload = extended && request.type === NBD_CMD_WRITE;
  view.setUint16(at + 4, isPayload ? request.flags | NBD_CMD_FLAG_PAYLOAD_LEN : request.flags);
  view.setUint16(at + 6, request.type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  putU64(view, at + 16, request.offset);
  if (extended) putU64(view, at + 24, request.length);
  else view.setUint32(at + 24, request.length);
}

/** The header of a reply. An object is used again for the next one. */
export class ReplyHeader {
  magic = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** NBD_E*; of a simple reply only. */
  error = 0;
  /** The rest is of chunks only. */
  flags = 0;
  type = 0;
  /** Bytes of payload behind it. Above 2^53 it is rounded. */
  length = 0;
  /** With extended headers: the request's offset once more. */
  offset = 0;
}

/** Bytes of a reply's header that begins with this magic; undefined when none does. */
export function replySizeOf(magic: number): number | undefined {
  if (magic === NBD_SIMPLE_REPLY_MAGIC) return SIMPLE_REPLY_SIZE;
  if (magic === NBD_STRUCTURED_REPLY_MAGIC) return CHUNK_SIZE;
  return magic === NBD_EXTENDED_REPLY_MAGIC ? EXTENDED_CHUNK_SIZE : undefined;
}

//                 simple reply        chunk               extended chunk
//   [ 0 ..  3]    magic               magic               magic
//   [ 4 ..  7]    error               flags, type         flags, type
//   [ 8 .. 15]    cookie              cookie              cookie
//   [16 ..   ]                        [.. 19] length      [.. 23] offset, [.. 31] length
/** Decodes a header whose magic replySizeOf() knows. */
export function decodeReply(view: DataView, at: number, into: ReplyHeader): void {
  const magic = view.getUint32(at);
  into.magic = magic;
  into.cookieHigh = view.getUint32(at + 8);
  into.cookieLow = view.getUint32(at + 12);
  if (magic === NBD_SIMPLE_REPLY_MAGIC) {
    into.error = view.getUint32(at + 4);
    return;
  }
  into.error = 0;
  into.flags = view.getUint16(at + 4);
  into.type = view.getUint16(at + 6);
  if (magic === NBD_STRUCTURED_REPLY_MAGIC) {
    into.length = view.getUint32(at + 16);
    return;
  }
  into.offset = u64(view, at + 16);
  into.length = u64(view, at + 24);
}

//   [ 0 ..  7]  magic    NBD_OPTS_MAGIC
//   [ 8 .. 11]  option   NBD_OPT_*
//   [12 .. 15]  length   bytes of data behind this header
/** An option, data included. */
export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.allocUnsafe(OPTION_SIZE + data.length);
  bytes.writeUInt32BE(NBD_OPTS_MAGIC.high, 0);
  bytes.writeUInt32BE(NBD_OPTS_MAGIC.low, 4);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  data.copy(bytes, OPTION_SIZE);
  return bytes;
}

//   [ 0 ..  3]  length   bytes of the name
//   [ 4 ..   ]  name
//   then two bytes, how many kinds of information are asked for, and two for each
/** The data of NBD_OPT_GO and NBD_OPT_INFO. */
export function encodeInfoRequest(name: Buffer, infos: readonly number[]): Buffer {
  const counted = Buffer.allocUnsafe(2 + 2 * infos.length);
  counted.writeUInt16BE(infos.length, 0);
  for (const [index, info] of infos.entries()) counted.writeUInt16BE(info, 2 + 2 * index);
  return Buffer.concat([sized(name), counted]);
}

//   [ 0 ..  3]  length   bytes of the name
//   [ 4 ..   ]  name
//   then four bytes, how many queries there are, and each as the name is
/** The data of NBD_OPT_SET_META_CONTEXT. */
export function encodeContextRequest(name: Buffer, queries: readonly Buffer[]): Buffer {
  const count = Buffer.allocUnsafe(4);
  count.writeUInt32BE(queries.length, 0);
  return Buffer.concat([sized(name), count, ...queries.map(sized)]);
}

function sized(text: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(4 + text.length);
  bytes.writeUInt32BE(text.length, 0);
  text.copy(bytes, 4);
  return bytes;
}
