// The handshake of one connection, from the client's flags to the choice of an export, as a generator: it yields what it waits
// for, gets the bytes, and knows no socket. Its texts are those that the reference logs and sends.

import { type IoError, ProtocolError } from '../../base/errors.ts';
import { socketFailures } from '../../net/byte-channel.ts';
import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_MAX_BUFFER_SIZE,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_STARTTLS,
  NBD_REP_ACK,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNSUP,
  nameOfOption,
} from '../../net/nbd/protocol.ts';
import { decodeOptionMagic } from '../../net/nbd/wire.ts';
import {
  type Handshake,
  HandshakeError,
  type Negotiated,
  OptionRefusal,
  START_TLS,
  type Step,
  type Steps,
} from './negotiation.ts';
import { type OptionResult, rowOfOption } from './options.ts';

/**
 * Negotiates: the result, or undefined when the client ended it in good order. Throws HandshakeError. Errors of the socket
 * are thrown in by who runs it, with failedRead().
 */
export function* negotiate(handshake: Handshake): Steps<Negotiated | undefined> {
  const { trace } = handshake;
  trace.nbd_negotiate_begin.log();
  yield* receiveClientFlags(handshake);
  for (;;) {
    yield* receiveOptionHeader(handshake);
    const result = yield* handshake.tls === 'required'
      ? answerBeforeTls(handshake)
      : answerOption(handshake);
    if (result === 'abort') return undefined;
    if (result !== undefined) {
      trace.nbd_negotiate_success.log();
      return result;
    }
  }
}

//   [ 0 ..  3]  client flags  NBD_FLAG_C_*
function* receiveClientFlags(handshake: Handshake): Steps<void> {
  const bytes = yield { length: 4, what: 'flags' };
  const flags = bytes.readUInt32BE(0);
  handshake.trace.nbd_negotiate_options_flags.log({ flags });
  handshake.fixedNewstyle = (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
  handshake.noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
  const unknown = (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) >>> 0;
  if (unknown !== 0) {
    throw new HandshakeError(`Unknown client flags 0x${unknown.toString(16)} received`);
  }
}

function* receiveOptionHeader(handshake: Handshake): Steps<void> {
  const magic = yield { length: 8, what: 'opts magic' };
  try {
    decodeOptionMagic(magic);
  } catch (error) {
    if (error instanceof ProtocolError) throw new HandshakeError('Bad magic received');
    throw error;
  }
  handshake.option = (yield { length: 4, what: 'option' }).readUInt32BE(0);
  const length = (yield { length: 4, what: 'option length' }).readUInt32BE(0);
  if (length > NBD_MAX_BUFFER_SIZE) {
    throw new HandshakeError(`len (${length} ) is larger than max len (${NBD_MAX_BUFFER_SIZE})`);
  }
  handshake.left = length;
  const { option } = handshake;
  handshake.trace.nbd_negotiate_options_check_option.log({ option, name: nameOfOption(option) });
}

function* answerOption(handshake: Handshake): Steps<OptionResult> {
  const { option } = handshake;
  const row = rowOfOption(option);
  const unsupported = `Unsupported option ${option} (${nameOfOption(option)})`;
  if (!handshake.fixedNewstyle && option !== NBD_OPT_EXPORT_NAME) {
    throw new HandshakeError(unsupported);
  }
  try {
    if (row === undefined) throw new OptionRefusal(NBD_REP_ERR_UNSUP, unsupported);
    if (row.data === 'none' && handshake.left > 0) throw OptionRefusal.unexpectedLength(option);
    return yield* row.answer(handshake);
  } catch (error) {
    if (!(error instanceof OptionRefusal)) throw error;
    yield* refuse(handshake, error);
    return undefined;
  }
}

/** Until it has TLS, a server that wants it allows nothing else. */
function* answerBeforeTls(handshake: Handshake): Steps<OptionResult> {
  const { option } = handshake;
  const hexadecimal = `0x${option.toString(16)}`;
  if (!handshake.fixedNewstyle) throw new HandshakeError(`Unsupported option ${hexadecimal}`);
  const refused = `Option ${hexadecimal} not permitted before TLS`;
  // It cannot be answered with an error.
  if (option === NBD_OPT_EXPORT_NAME) throw new HandshakeError(refused);
  if (option !== NBD_OPT_STARTTLS) {
    yield* refuse(handshake, new OptionRefusal(NBD_REP_ERR_TLS_REQD, refused));
    return option === NBD_OPT_ABORT ? 'abort' : undefined;
  }
  if (handshake.left > 0) {
    const refusal = OptionRefusal.unexpectedLength(option);
    yield* refuse(handshake, refusal);
    throw new HandshakeError(refusal.message);
  }
  yield* handshake.reply(NBD_REP_ACK);
  yield START_TLS;
  handshake.tls = 'on';
  return undefined;
}

function* refuse(handshake: Handshake, refusal: OptionRefusal): Steps<void> {
  yield* handshake.drop(handshake.left);
  handshake.trace.nbd_negotiate_send_rep_err.log({ message: refusal.message });
  yield* handshake.reply(refusal.reply, Buffer.from(refusal.message, 'latin1'));
}

/** What is logged when the bytes of a step cannot be received; `undefined` stands for the end of the stream. */
export function failedRead(
  step: Step,
  error: IoError | undefined,
  failures = socketFailures,
): HandshakeError {
  const reason =
    error === undefined
      ? 'Unexpected end-of-file before all data were read'
      : `${failures.read}: ${error.reason}`;
  return new HandshakeError(
    step.what === undefined ? reason : `Failed to read ${step.what}: ${reason}`,
  );
}
