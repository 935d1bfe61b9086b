// The options of the handshake, one row each. Names of exports and contexts are compared and echoed byte by byte, so they are
// latin1 strings here: one character for one byte.

import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_SEND_DF,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_MAX_STRING_SIZE,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_BLOCK_SIZE_REQD,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  type NbdOption,
  nameOfOption,
} from '../../net/nbd/protocol.ts';
import { encodeExportNameReply } from '../../net/nbd/wire.ts';
import { type MetaContext, namedBy } from './meta-context.ts';
import type { NbdExport } from './nbd-export.ts';
import {
  type Handshake,
  HandshakeError,
  invalid,
  type Negotiated,
  OptionRefusal,
  type Steps,
} from './negotiation.ts';

/** What follows from an option: the end of the handshake, its orderly abort, or the next option. */
export type OptionResult = Negotiated | 'abort' | undefined;

export interface OptionRow {
  /** `none`: data are refused; `own`: answer() takes what it understands. */
  readonly data: 'none' | 'own';
  answer(handshake: Handshake): Steps<OptionResult>;
}

/** Characters of a name that a text repeats; longer ones are cut. */
const NAME_IN_TEXT = 80;

export const options = {
  [NBD_OPT_EXPORT_NAME]: { data: 'own', answer: answerExportName },
  [NBD_OPT_ABORT]: { data: 'own', answer: answerAbort },
  [NBD_OPT_LIST]: { data: 'none', answer: answerList },
  [NBD_OPT_STARTTLS]: { data: 'none', answer: answerStartTls },
  [NBD_OPT_INFO]: { data: 'own', answer: answerInfo },
  [NBD_OPT_GO]: { data: 'own', answer: answerInfo },
  [NBD_OPT_STRUCTURED_REPLY]: { data: 'none', answer: answerStructuredReply },
  [NBD_OPT_LIST_META_CONTEXT]: { data: 'own', answer: answerMetaContext },
  [NBD_OPT_SET_META_CONTEXT]: { data: 'own', answer: answerMetaContext },
  [NBD_OPT_EXTENDED_HEADERS]: { data: 'none', answer: answerExtendedHeaders },
} as const satisfies Record<NbdOption, OptionRow>;

/** The row of an option, or undefined for one that there is none for. */
export function rowOfOption(option: number): OptionRow | undefined {
  return (options as Readonly<Record<number, OptionRow>>)[option];
}

//   [ 0 ..   ]  export name  the whole of the data
/** The oldest way to choose an export. It cannot be answered with an error, so an unknown name ends the connection. */
function* answerExportName(handshake: Handshake): Steps<OptionResult> {
  if (handshake.extendedHeaders) throw new HandshakeError('Extended headers already negotiated');
  if (handshake.left > NBD_MAX_STRING_SIZE) throw new HandshakeError('Bad length received');
  const bytes = yield* handshake.take(handshake.left, 'export name');
  const [name = ''] = bytes.toString('latin1').split('\0', 1);
  const chosen = handshake.exports.find(name);
  if (chosen === undefined) throw new HandshakeError('export not found');
  handshake.sendRaw(
    encodeExportNameReply(chosen.size, flagsOf(chosen, handshake), handshake.noZeroes),
  );
  return handshake.choose(chosen);
}

function* answerAbort(handshake: Handshake): Steps<OptionResult> {
  yield* handshake.reply(NBD_REP_ACK);
  return 'abort';
}

//   [ 0 ..  3]  name length
//   [ 4 ..   ]  name, then the description up to the end of the reply
function* answerList(handshake: Handshake): Steps<OptionResult> {
  for (const listed of handshake.exports.list()) {
    const text = Buffer.from(listed.wireName + (listed.wireDescription ?? ''), 'latin1');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(listed.wireName.length);
    yield* handshake.reply(NBD_REP_SERVER, Buffer.concat([length, text]));
  }
  yield* handshake.reply(NBD_REP_ACK);
  return undefined;
}

/** The server has no TLS credentials, or TLS is there already. What begins it is in handshake.ts. */
function* answerStartTls(handshake: Handshake): Steps<OptionResult> {
  yield* [];
  if (handshake.tls === 'on') throw invalid('TLS already enabled');
  throw new OptionRefusal(NBD_REP_ERR_POLICY, 'TLS not configured');
}

function* answerStructuredReply(handshake: Handshake): Steps<OptionResult> {
  if (handshake.extendedHeaders) {
    throw new OptionRefusal(NBD_REP_ERR_EXT_HEADER_REQD, 'extended headers already negotiated');
  }
  if (handshake.structuredReply) throw invalid('structured reply already negotiated');
  handshake.structuredReply = true;
  yield* handshake.reply(NBD_REP_ACK);
  return undefined;
}

/** All that structured replies allow, and more: they are the same chunks with other headers. */
function* answerExtendedHeaders(handshake: Handshake): Steps<OptionResult> {
  if (handshake.extendedHeaders) throw invalid('extended headers already negotiated');
  handshake.structuredReply = true;
  handshake.extendedHeaders = true;
  yield* handshake.reply(NBD_REP_ACK);
  return undefined;
}

//   [ 0 ..  3]  name length
//   [ 4 ..   ]  name
//   [ + 0.. 1]  number of information requests, then NBD_INFO_* of two bytes each
/** NBD_OPT_INFO and NBD_OPT_GO. */
function* answerInfo(handshake: Handshake): Steps<OptionResult> {
  const name = yield* takeName(handshake);
  let requests = (yield* handshake.take(2)).readUInt16BE(0);
  handshake.trace.nbd_negotiate_handle_info_requests.log({ requests });
  let wantsName = false;
  let wantsBlockSize = false;
  for (; requests > 0; requests--) {
    const request = (yield* handshake.take(2)).readUInt16BE(0);
    if (request === NBD_INFO_NAME) wantsName = true;
    if (request === NBD_INFO_BLOCK_SIZE) wantsBlockSize = true;
  }
  if (handshake.left > 0) throw OptionRefusal.unexpectedLength(handshake.option);
  const chosen = findExport(handshake, name);
  const going = handshake.option === NBD_OPT_GO;

  if (wantsName) yield* replyInfo(handshake, NBD_INFO_NAME, Buffer.from(name, 'latin1'));
  if (chosen.wireDescription !== undefined) {
    const description = Buffer.from(chosen.wireDescription, 'latin1');
    yield* replyInfo(handshake, NBD_INFO_DESCRIPTION, description);
  }
  // A client that does not ask for the block size will not obey it, so it is told the size that any may use.
  const { minimum, preferred, maximum } = chosen.blockSizes();
  const told = going && !wantsBlockSize ? 1 : minimum;
  yield* replyInfo(handshake, NBD_INFO_BLOCK_SIZE, u32s(told, Math.max(preferred, told), maximum));
  yield* replyInfo(handshake, NBD_INFO_EXPORT, sizeAndFlags(chosen, handshake));
  if (!going && !wantsBlockSize && minimum > 1) {
    throw new OptionRefusal(
      NBD_REP_ERR_BLOCK_SIZE_REQD,
      'request NBD_INFO_BLOCK_SIZE to use this export',
    );
  }
  yield* handshake.reply(NBD_REP_ACK);
  return going ? handshake.choose(chosen, told) : undefined;
}

//   [ 0 ..  3]  name length
//   [ 4 ..   ]  name
//   [ + 0.. 3]  number of queries, then for each its length in four bytes and itself
/**
 * NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. Data behind the last query are left where they are, as the
 * reference leaves them: they are taken for the next option, and end the connection.
 */
function* answerMetaContext(handshake: Handshake): Steps<OptionResult> {
  const listing = handshake.option === NBD_OPT_LIST_META_CONTEXT;
  if (!listing && !handshake.structuredReply) {
    const name = nameOfOption(handshake.option);
    throw invalid(`request option '${name}' when structured reply is not negotiated`);
  }
  if (!listing) handshake.selection = undefined;
  const chosen = findExport(handshake, yield* takeName(handshake));
  const queries = (yield* handshake.take(4)).readUInt32BE(0);
  handshake.trace.nbd_negotiate_meta_context.log({
    option: nameOfOption(handshake.option),
    export: chosen.wireName,
    queries,
  });
  const named = new Set<MetaContext>(listing && queries === 0 ? chosen.contexts : []);
  for (let index = 0; index < queries; index++) {
    const query = yield* takeQuery(handshake);
    if (query === undefined) continue;
    for (const context of namedBy(chosen.contexts, query, listing)) named.add(context);
  }
  const contexts = chosen.contexts.filter((context) => named.has(context));
  for (const context of contexts) {
    const id = u32s(listing ? 0 : context.id);
    const data = Buffer.concat([id, Buffer.from(context.name, 'latin1')]);
    yield* handshake.reply(NBD_REP_META_CONTEXT, data);
  }
  yield* handshake.reply(NBD_REP_ACK);
  if (!listing) handshake.selection = { export: chosen, contexts };
  return undefined;
}

/** A query, or undefined for one that is too long to name anything. */
function* takeQuery(handshake: Handshake): Steps<string | undefined> {
  const length = (yield* handshake.take(4)).readUInt32BE(0);
  if (length > NBD_MAX_STRING_SIZE) {
    yield* handshake.drop(length);
    return undefined;
  }
  return yield* takeText(handshake, length);
}

function* takeName(handshake: Handshake): Steps<string> {
  const length = (yield* handshake.take(4)).readUInt32BE(0);
  if (length > NBD_MAX_STRING_SIZE) throw invalid(`Invalid name length: ${length}`);
  return yield* takeText(handshake, length);
}

function* takeText(handshake: Handshake, length: number): Steps<string> {
  const text = (yield* handshake.take(length)).toString('latin1');
  if (text.includes('\0')) {
    throw invalid(`Unexpected embedded NUL in option ${nameOfOption(handshake.option)}`);
  }
  return text;
}

function findExport(handshake: Handshake, name: string): NbdExport {
  const found = handshake.exports.find(name);
  if (found !== undefined) return found;
  const shown = name.length < NAME_IN_TEXT ? name : `${name.slice(0, NAME_IN_TEXT)}...`;
  throw new OptionRefusal(NBD_REP_ERR_UNKNOWN, `export '${shown}' not present`);
}

//   [ 0 ..  1]  NBD_INFO_*
function* replyInfo(handshake: Handshake, info: number, data: Buffer): Steps<void> {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(info);
  yield* handshake.reply(NBD_REP_INFO, Buffer.concat([type, data]));
}

//   [ 0 ..  7]  size   bytes of the export
//   [ 8 ..  9]  flags  NBD_FLAG_*
function sizeAndFlags(chosen: NbdExport, handshake: Handshake): Buffer {
  return encodeExportNameReply(chosen.size, flagsOf(chosen, handshake), true);
}

function flagsOf(chosen: NbdExport, handshake: Handshake): number {
  // A status request can be filtered only where there is something to choose from; NBD_OPT_INFO comes before the choice.
  const filters =
    handshake.extendedHeaders &&
    (handshake.option === NBD_OPT_INFO || handshake.contextsFor(chosen).length > 0);
  return (
    chosen.flags |
    (handshake.structuredReply ? NBD_FLAG_SEND_DF : 0) |
    (filters ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0)
  );
}

function u32s(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}
