// NBD_OPT_GO: what the server tells of an export before the transmission begins, checked.

import { encodeInfoRequest } from '../../../net/nbd/client-wire.ts';
import {
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_MAX_BUFFER_SIZE,
  NBD_MAX_STRING_SIZE,
  NBD_OPT_GO,
  NBD_REP_ACK,
  NBD_REP_INFO,
} from '../../../net/nbd/protocol.ts';
import type { ExportInfo } from './negotiation.ts';
import {
  type Negotiation,
  NegotiationError,
  namedReply,
  optionRequest,
  receive,
  replies,
} from './option.ts';

const TYPE_SIZE = 2;
const EXPORT_SIZE = 10;
const BLOCK_SIZES_SIZE = 12;

/** The largest minimum block size that the specification allows. */
const MAX_MIN_BLOCK = 65536;

type Gathered = { -readonly [Name in keyof ExportInfo]: ExportInfo[Name] };

/** What the server tells of the export, which it now serves; undefined when it does not know the option. */
export function* negotiateInfo(name: Buffer): Negotiation<ExportInfo | undefined> {
  yield optionRequest(NBD_OPT_GO, encodeInfoRequest(name, [NBD_INFO_BLOCK_SIZE]));
  const info: Gathered = { size: 0, flags: 0, minBlock: 0, optBlock: 0, maxBlock: 0 };
  const isKnown = yield* replies(NBD_OPT_GO, { strict: true }, function* ({ type, length }) {
    if (type === NBD_REP_ACK) {
      if (length !== 0) throw new NegotiationError('server sent invalid NBD_REP_ACK');
      // At least NBD_FLAG_HAS_FLAGS has to be set.
      if (info.flags === 0) throw new NegotiationError('broken server omitted NBD_INFO_EXPORT');
      checkMultiple(info);
      return 'done';
    }
    if (type !== NBD_REP_INFO) {
      throw wrong(
        `unexpected reply type ${namedReply(type)}, expected ${namedReply(NBD_REP_INFO)}`,
      );
    }
    if (length < TYPE_SIZE) throw wrong(`NBD_REP_INFO length ${length} is too short`);
    const kind = (yield* receive(TYPE_SIZE, 'info type')).readUInt16BE(0);
    yield* receiveInfo(kind, length - TYPE_SIZE, info);
    return 'more';
  });
  return isKnown ? info : undefined;
}

function* receiveInfo(kind: number, length: number, info: Gathered): Negotiation<void> {
  if (kind === NBD_INFO_EXPORT) {
    yield* receiveExport(length, info);
  } else if (kind === NBD_INFO_BLOCK_SIZE) {
    yield* receiveBlockSizes(length, info);
  } else {
    yield* skipInfo(kind, length);
  }
}

/** Names and descriptions, and what later versions of the protocol may know: not needed. */
function* skipInfo(kind: number, length: number): Negotiation<void> {
  const isString = kind === NBD_INFO_NAME || kind === NBD_INFO_DESCRIPTION;
  if (length > (isString ? NBD_MAX_STRING_SIZE : NBD_MAX_BUFFER_SIZE)) {
    throw wrong(`NBD_REP_INFO length ${length} is too long`);
  }
  for (let left = length; left > 0; left -= NBD_MAX_STRING_SIZE) {
    yield* receive(Math.min(left, NBD_MAX_STRING_SIZE), 'info payload');
  }
}

//   [ 0 ..  7]  size     bytes of the export
//   [ 8 ..  9]  flags    NBD_FLAG_*
function* receiveExport(length: number, info: Gathered): Negotiation<void> {
  if (length !== EXPORT_SIZE) throw unexpectedSize(length);
  const size = yield* receive(8, 'info size');
  info.size = size.readUInt32BE(0) * 2 ** 32 + size.readUInt32BE(4);
  info.flags = (yield* receive(2, 'info flags')).readUInt16BE(0);
  checkMultiple(info);
}

//   [ 0 ..  3]  minimum
//   [ 4 ..  7]  preferred
//   [ 8 .. 11]  maximum
function* receiveBlockSizes(length: number, info: Gathered): Negotiation<void> {
  if (length !== BLOCK_SIZES_SIZE) throw unexpectedSize(length);
  info.minBlock = (yield* receive(4, 'info minimum block size')).readUInt32BE(0);
  if (!isPowerOfTwo(info.minBlock)) {
    throw wrong(`server minimum block size ${info.minBlock} is not a power of two`);
  }
  if (info.minBlock > MAX_MIN_BLOCK) {
    throw wrong(`server minimum block size ${info.minBlock} is not valid`);
  }
  info.optBlock = (yield* receive(4, 'info preferred block size')).readUInt32BE(0);
  if (!isPowerOfTwo(info.optBlock) || info.optBlock < info.minBlock) {
    throw wrong(`server preferred block size ${info.optBlock} is not valid`);
  }
  info.maxBlock = (yield* receive(4, 'info maximum block size')).readUInt32BE(0);
  if (info.maxBlock < info.minBlock) {
    throw wrong(`server maximum block size ${info.maxBlock} is not valid`);
  }
}

/** The two kinds of information come in any order. */
function checkMultiple({ size, minBlock }: Gathered): void {
  if (minBlock === 0 || size % minBlock === 0) return;
  throw wrong(`export size ${size} is not multiple of minimum block size ${minBlock}`);
}

function isPowerOfTwo(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

function unexpectedSize(length: number): NegotiationError {
  return wrong(`remaining export info len ${length} is unexpected size`);
}

function wrong(text: string): NegotiationError {
  return new NegotiationError(text, { abort: true });
}
