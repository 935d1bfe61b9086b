// The client's side of the handshake, from the server's first byte to the transmission phase: pure, bytes in, bytes and an
// outcome out. The order of what is asked, and the texts, are the reference's; extended headers, which it does not know, are
// asked for first.

import { encodeOption } from '../../../net/nbd/client-wire.ts';
import {
  NBD_CLIENT_MAGIC,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_MAGIC,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
} from '../../../net/nbd/protocol.ts';
import { negotiateContext } from './context-option.ts';
import { negotiateInfo } from './info-option.ts';
import { checkListed } from './list-option.ts';
import {
  type Negotiation,
  NegotiationError,
  named,
  optionRequest,
  receive,
  simpleOption,
} from './option.ts';

/** What a client wants of a server. */
export interface Wish {
  /** The name of the export. */
  readonly name: Buffer;
  /** The metadata context that block status is asked of. */
  readonly context: Buffer;
  readonly tls: boolean;
}

/** How replies, and with extended headers requests, look. */
export type Headers = 'simple' | 'structured' | 'extended';

/** What a handshake ends with. */
export interface ServerInfo {
  /** Bytes. Above 2^53 it is rounded. */
  readonly size: number;
  /** NBD_FLAG_* */
  readonly flags: number;
  readonly headers: Headers;
  /** In bytes, 0 where the server does not say. */
  readonly minBlock: number;
  readonly optBlock: number;
  readonly maxBlock: number;
  /** The wished metadata context's, if the server has it. */
  readonly contextId: number | undefined;
}

/** What a server tells of an export. */
export type ExportInfo = Pick<ServerInfo, 'size' | 'flags' | 'minBlock' | 'optBlock' | 'maxBlock'>;

/** Zeroes behind the answer to NBD_OPT_EXPORT_NAME, and behind an oldstyle greeting. */
const RESERVED_SIZE = 124;

/** The whole handshake. Throws NegotiationError. */
export function* negotiate(wish: Wish): Negotiation<ServerInfo> {
  const initial = yield* receive(8, 'initial magic');
  if (!isMagic(initial, NBD_MAGIC)) {
    throw new NegotiationError(`Bad initial magic received: ${hex(initial)}`);
  }
  const second = yield* receive(8, 'server magic');
  // IHAVEOPT
  if (second.equals(newstyle)) return yield* negotiateNewstyle(wish);
  if (!isMagic(second, NBD_CLIENT_MAGIC)) {
    throw new NegotiationError(`Bad server magic received: ${hex(second)}`);
  }
  if (wish.tls) throw new NegotiationError('Server does not support STARTTLS');
  return yield* negotiateOldstyle(wish);
}

const newstyle = encodeOption(0).subarray(0, 8);

function* negotiateNewstyle(wish: Wish): Negotiation<ServerInfo> {
  const offered = (yield* receive(2, 'server flags')).readUInt16BE(0);
  const isFixed = (offered & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  const noZeroes = (offered & NBD_FLAG_NO_ZEROES) !== 0;
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(
    (isFixed ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0),
  );
  yield { do: 'send', bytes: flags, what: 'clientflags field' };
  if (!isFixed) {
    // It knows no other option than the export's name.
    if (wish.tls) throw new NegotiationError('Server does not support STARTTLS');
    const info = yield* negotiateExportName(wish, noZeroes);
    return { ...info, headers: 'simple', contextId: undefined };
  }
  if (wish.tls) yield* startTls();
  const headers = yield* negotiateHeaders();
  const contextId = headers === 'simple' ? undefined : yield* negotiateContext(wish);
  const info = yield* negotiateInfo(wish.name);
  if (info !== undefined) return { ...info, headers, contextId };
  if (headers === 'extended') {
    throw new NegotiationError(
      `Server with extended headers does not support option ${named(NBD_OPT_GO)}`,
      { abort: true },
    );
  }
  // NBD_OPT_EXPORT_NAME has no way to say that there is no such export.
  yield* checkListed(wish.name);
  return { ...(yield* negotiateExportName(wish, noZeroes)), headers, contextId };
}

function* startTls(): Negotiation<void> {
  if (!(yield* simpleOption(NBD_OPT_STARTTLS, { strict: true }))) {
    throw new NegotiationError("Server don't support STARTTLS option", { abort: true });
  }
  yield { do: 'start tls' };
}

function* negotiateHeaders(): Negotiation<Headers> {
  if (yield* simpleOption(NBD_OPT_EXTENDED_HEADERS, { strict: false })) return 'extended';
  return (yield* simpleOption(NBD_OPT_STRUCTURED_REPLY, { strict: false }))
    ? 'structured'
    : 'simple';
}

//   [ 0 ..  7]  size     bytes of the export
//   [ 8 ..  9]  flags    NBD_FLAG_*
function* negotiateExportName(wish: Wish, noZeroes: boolean): Negotiation<ExportInfo> {
  yield optionRequest(NBD_OPT_EXPORT_NAME, wish.name);
  const size = uint64(yield* receive(8, 'export length'));
  const flags = (yield* receive(2, 'export flags')).readUInt16BE(0);
  if (!noZeroes) yield* receive(RESERVED_SIZE, 'reserved block');
  return { ...withoutBlockSizes, size, flags };
}

//   [ 0 ..  7]  size     bytes of the export
//   [ 8 .. 11]  flags    NBD_FLAG_*, the upper half zero
function* negotiateOldstyle(wish: Wish): Negotiation<ServerInfo> {
  if (wish.name.length > 0) {
    throw new NegotiationError('Server does not support non-empty export names');
  }
  const size = uint64(yield* receive(8, 'export length'));
  const flags = (yield* receive(4, 'export flags')).readUInt32BE(0);
  // The letter at the end is the reference's.
  if (flags > 0xffff) throw new NegotiationError(`Unexpected export flags ${flags.toString(16)}x`);
  yield* receive(RESERVED_SIZE, 'reserved block');
  return { ...withoutBlockSizes, size, flags, headers: 'simple', contextId: undefined };
}

const withoutBlockSizes = { minBlock: 0, optBlock: 0, maxBlock: 0 } as const;

function isMagic(bytes: Buffer, magic: { readonly high: number; readonly low: number }): boolean {
  return bytes.readUInt32BE(0) === magic.high && bytes.readUInt32BE(4) === magic.low;
}

function hex(bytes: Buffer): string {
  return `0x${bytes.readBigUInt64BE(0).toString(16)}`;
}

function uint64(bytes: Buffer): number {
  return bytes.readUInt32BE(0) * 2 ** 32 + bytes.readUInt32BE(4);
}
