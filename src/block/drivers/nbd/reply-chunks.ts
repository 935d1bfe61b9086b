// What a server may send in a chunk, checked against the request that it answers. Texts are the reference's where it has the
// rule, too.

import { errno } from '../../../base/errno.ts';
import type { ReplyHeader } from '../../../net/nbd/client-wire.ts';
import {
  BLOCK_STATUS_EXT_SIZE,
  BLOCK_STATUS_SIZE,
  ERROR_SIZE,
  EXTENDED_EXTENT_SIZE,
  EXTENT_SIZE,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_MAX_STRING_SIZE,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_IS_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  nameOfChunk,
  nameOfCommand,
  OFFSET_DATA_SIZE,
  OFFSET_HOLE_SIZE,
} from '../../../net/nbd/protocol.ts';
import { u64 } from '../../../net/nbd/wire.ts';
import type { ClientRequest } from './client-request.ts';
import type { Headers } from './negotiation.ts';
import { errnoOf } from './wire-errno.ts';

/** The server broke a rule: nothing that it says can be relied on any more. */
export class ServerFault extends Error {
  override readonly name = 'ServerFault';
}

/** What was agreed on, and bears on chunks. */
export interface ReplyRules {
  readonly headers: Headers;
  readonly contextId: number | undefined;
  /** Bytes; 0 where the server does not say. */
  readonly minBlock: number;
}

/** A chunk with all of its payload. */
export interface Chunk {
  readonly request: ClientRequest;
  readonly header: ReplyHeader;
  /** Where the payload is: `header.length` bytes at `at`. */
  readonly view: DataView;
  readonly at: number;
  readonly rules: ReplyRules;
}

const OFFSET_SIZE = 8;

/** Bytes of payload other than data: room for an error with the longest message there may be, and for some extents. */
const MAX_PAYLOAD = ERROR_SIZE + NBD_MAX_STRING_SIZE + OFFSET_SIZE;

/** The header of a chunk with data. */
export function checkDataLength(request: ClientRequest, { length }: ReplyHeader): void {
  if (!request.isRead) throw new ServerFault('Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk');
  if (length <= OFFSET_DATA_SIZE) throw invalidPayload('NBD_REPLY_TYPE_OFFSET_DATA');
}

/** The header of any other chunk. */
export function checkPayloadLength(
  request: ClientRequest,
  { type, length, flags }: ReplyHeader,
): void {
  if (type === NBD_REPLY_TYPE_NONE) {
    if ((flags & NBD_REPLY_FLAG_DONE) === 0) {
      throw new ServerFault(
        'Protocol error: NBD_REPLY_TYPE_NONE chunk without NBD_REPLY_FLAG_DONE flag set',
      );
    }
    if (length !== 0) {
      throw new ServerFault('Protocol error: NBD_REPLY_TYPE_NONE chunk with nonzero length');
    }
    return;
  }
  const isExpected =
    isError(type) || request.type === NBD_CMD_READ || request.type === NBD_CMD_BLOCK_STATUS;
  if (length !== 0 && !isExpected) throw new ServerFault('Unexpected structured payload');
  if (length > MAX_PAYLOAD) throw new ServerFault('Payload too large');
}

/** Where a chunk's data, or its hole, are; notes them. */
export function checkData(request: ClientRequest, offset: number, length: number): void {
  const isInside =
    length > 0 &&
    length <= request.length &&
    offset >= request.offset &&
    offset <= request.offset + request.length - length;
  if (!isInside) {
    throw new ServerFault('Protocol error: server sent chunk exceeding requested region');
  }
  if (!request.cover(offset, offset + length)) {
    throw new ServerFault('Protocol error: server sent chunks that overlap, or too many');
  }
}

/** A chunk that is no data. */
export function acceptChunk(chunk: Chunk): void {
  const { request, header } = chunk;
  const { type } = header;
  if (type === NBD_REPLY_TYPE_NONE) return;
  if (isError(type)) {
    acceptError(chunk);
  } else if (type === NBD_REPLY_TYPE_OFFSET_HOLE && request.type === NBD_CMD_READ) {
    acceptHole(chunk);
  } else if (type === statusType(chunk.rules) && request.type === NBD_CMD_BLOCK_STATUS) {
    acceptStatus(chunk);
  } else {
    const command = nameOfCommand(request.type).toUpperCase().replaceAll(' ', '_');
    throw new ServerFault(
      `Unexpected reply type: ${type} (${nameOfChunk(type)}) for CMD_${command}`,
    );
  }
}

/** The reply has ended. */
export function checkFinished(request: ClientRequest): void {
  if (request.failure !== 0) return;
  if (request.isRead && request.isStructured && !request.isCovered) {
    throw new ServerFault('Protocol error: server did not send all requested data');
  }
  // As in the reference only the request suffers: `Server did not reply with any status extents`.
  if (request.type === NBD_CMD_BLOCK_STATUS && request.extent === undefined) {
    request.failure = errno.EIO;
  }
}

//   [ 0 ..  3]  error    NBD_E*
//   [ 4 ..  5]  length   bytes of the message
//   [ 6 ..   ]  message
//   then, for NBD_REPLY_TYPE_ERROR_OFFSET, eight bytes: where the error is
function acceptError({ request, header, view, at }: Chunk): void {
  const { type, length } = header;
  if (length < ERROR_SIZE) {
    throw new ServerFault('Protocol error: invalid payload for structured error');
  }
  const error = view.getUint32(at);
  if (error === 0) {
    throw new ServerFault('Protocol error: server sent structured error chunk with error = 0');
  }
  const messageLength = view.getUint16(at + 4);
  const rest = length - ERROR_SIZE - messageLength;
  const restMayBe = restOfError(type);
  if (
    messageLength > NBD_MAX_STRING_SIZE ||
    rest < 0 ||
    (restMayBe !== undefined && rest !== restMayBe)
  ) {
    throw new ServerFault(
      'Protocol error: server sent structured error chunk with incorrect message size',
    );
  }
  if (type === NBD_REPLY_TYPE_ERROR_OFFSET) {
    const place = u64(view, at + ERROR_SIZE + messageLength);
    if (place < request.offset || place >= request.offset + request.length) {
      throw new ServerFault('Protocol error: server sent error outside of requested region');
    }
  }
  if (request.failure === 0) request.failure = errnoOf(error);
}

/** Bytes behind the message; undefined for kinds of errors that are not known. */
function restOfError(type: number): number | undefined {
  if (type === NBD_REPLY_TYPE_ERROR) return 0;
  return type === NBD_REPLY_TYPE_ERROR_OFFSET ? OFFSET_SIZE : undefined;
}

//   [ 0 ..  7]  offset
//   [ 8 .. 11]  length
function acceptHole({ request, header, view, at }: Chunk): void {
  if (header.length !== OFFSET_HOLE_SIZE) throw invalidPayload('NBD_REPLY_TYPE_OFFSET_HOLE');
  const offset = u64(view, at);
  const length = view.getUint32(at + 8);
  checkData(request, offset, length);
  const start = request.at + (offset - request.offset);
  request.buffer?.bytes.fill(0, start, start + length);
}

//                 32 bits            64 bits
//   [ 0 ..  3]    id                 id
//   [ 4 ..   ]                       [.. 7] how many extents follow
//   then extents: length, flags
function acceptStatus({ request, header, view, at, rules }: Chunk): void {
  if (request.extent !== undefined) throw new ServerFault('Several BLOCK_STATUS chunks in reply');
  const isExtended = rules.headers === 'extended';
  const front = isExtended ? BLOCK_STATUS_EXT_SIZE : BLOCK_STATUS_SIZE;
  const size = isExtended ? EXTENDED_EXTENT_SIZE : EXTENT_SIZE;
  const extents = (header.length - front) / size;
  const isWhole = extents >= 1 && Number.isInteger(extents);
  if (!isWhole || (isExtended && view.getUint32(at + 4) !== extents)) {
    throw invalidPayload(
      isExtended ? 'NBD_REPLY_TYPE_BLOCK_STATUS_EXT' : 'NBD_REPLY_TYPE_BLOCK_STATUS',
    );
  }
  const id = view.getUint32(at);
  if (id !== rules.contextId) {
    throw new ServerFault(
      `Protocol error: unexpected context id ${id} for NBD_REPLY_TYPE_BLOCK_STATUS, when negotiated context id is ${rules.contextId}`,
    );
  }
  // One was asked for, and so one is enough.
  const first = at + front;
  const length = isExtended ? u64(view, first) : view.getUint32(first);
  if (length === 0) {
    throw new ServerFault('Protocol error: server sent status chunk with zero length');
  }
  // Flags of contexts we know have no upper half.
  const flags = isExtended ? view.getUint32(first + 12) : view.getUint32(first + 4);
  request.extent = alignedExtent(length, flags, rules.minBlock);
}

/** Servers are known that tell of extents that are not aligned as they want requests to be. */
function alignedExtent(
  length: number,
  flags: number,
  minBlock: number,
): { length: number; flags: number } {
  if (minBlock === 0 || length % minBlock === 0) return { length, flags };
  if (length > minBlock) return { length: length - (length % minBlock), flags };
  return { length: minBlock, flags: 0 };
}

function statusType({ headers }: ReplyRules): number {
  return headers === 'extended' ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
}

function isError(type: number): boolean {
  return (type & NBD_REPLY_TYPE_IS_ERROR) !== 0;
}

function invalidPayload(type: string): ServerFault {
  return new ServerFault(`Protocol error: invalid payload for ${type}`);
}
