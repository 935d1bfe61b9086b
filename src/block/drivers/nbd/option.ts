// One option of the handshake and the replies to it, as steps: what is to be sent, and which bytes are waited for.

import { encodeOption } from '../../../net/nbd/client-wire.ts';
import {
  NBD_MAX_STRING_SIZE,
  NBD_OPT_ABORT,
  NBD_REP_ACK,
  NBD_REP_ERR_BLOCK_SIZE_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_MAGIC,
  nameOfOption,
  nameOfReply,
  OPTION_REPLY_SIZE,
} from '../../../net/nbd/protocol.ts';
import { QmpError } from '../../../qapi/errors.ts';

/** What has to happen before the handshake goes on. */
export type Step =
  | { readonly do: 'send'; readonly bytes: Buffer; readonly what: string }
  /** The answer is that many bytes; `what` they are is for texts. */
  | { readonly do: 'receive'; readonly length: number; readonly what: string }
  | { readonly do: 'start tls' };

/** A part of the handshake; what it waits for is handed to next(). Throws NegotiationError. */
export type Negotiation<Outcome> = Generator<Step, Outcome, Buffer>;

/** The server cannot or does not do what is wanted, or broke a rule. */
export class NegotiationError extends QmpError {
  /** What the server is told before it is left, if it is still in step. */
  readonly farewell: Buffer | undefined;

  constructor(text: string, options: { abort?: boolean; hint?: string } = {}) {
    super(text, options.hint === undefined ? {} : { hint: options.hint });
    this.farewell = options.abort === true ? encodeOption(NBD_OPT_ABORT) : undefined;
  }
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  /** Bytes of data behind it. */
  readonly length: number;
}

/**
 * Replies to one option, and the entries of a list among them, beyond which a server is taken to have no end: with names of
 * usual length this is more than a hundred megabytes.
 */
const MAX_REPLIES = 1_000_000;

export function optionRequest(option: number, data?: Buffer): Step {
  return { do: 'send', bytes: encodeOption(option, data), what: 'option request header' };
}

export function* receive(length: number, what: string): Negotiation<Buffer> {
  return yield { do: 'receive', length, what };
}

//   [ 0 ..  7]  magic    NBD_REP_MAGIC
//   [ 8 .. 11]  option   the option that this answers
//   [12 .. 15]  type     NBD_REP_*
//   [16 .. 19]  length   bytes of data behind this header
function* receiveReply(option: number): Negotiation<OptionReply> {
  const bytes = yield* receive(OPTION_REPLY_SIZE, 'option reply');
  const isReply =
    bytes.readUInt32BE(0) === NBD_REP_MAGIC.high && bytes.readUInt32BE(4) === NBD_REP_MAGIC.low;
  if (!isReply) throw new NegotiationError('Unexpected option reply magic', { abort: true });
  const answered = bytes.readUInt32BE(8);
  if (answered !== option) {
    throw new NegotiationError(
      `Unexpected option type ${answered} (${nameOfOption(answered)}), expected ${option} (${nameOfOption(option)})`,
      { abort: true },
    );
  }
  return { option, type: bytes.readUInt32BE(12), length: bytes.readUInt32BE(16) };
}

/**
 * Gives each reply to an option to `accept`, until that says that the last one was there. False when the option was refused in
 * a way that leaves others open: as not supported or, unless `strict`, for whatever reason.
 */
export function* replies(
  option: number,
  { strict }: { readonly strict: boolean },
  accept: (reply: OptionReply) => Negotiation<'more' | 'done'>,
): Negotiation<boolean> {
  for (let count = 0; count < MAX_REPLIES; count++) {
    const reply = yield* receiveReply(option);
    if (isError(reply)) {
      yield* receiveError(reply, strict);
      return false;
    }
    if ((yield* accept(reply)) === 'done') return true;
  }
  throw new NegotiationError(`Server does not end its reply to option ${named(option)}`);
}

/** An option without data that is answered by yes or no. */
export function* simpleOption(
  option: number,
  { strict }: { readonly strict: boolean },
): Negotiation<boolean> {
  yield optionRequest(option);
  const reply = yield* receiveReply(option);
  if (isError(reply)) {
    yield* receiveError(reply, strict);
    return false;
  }
  if (reply.type !== NBD_REP_ACK) {
    throw new NegotiationError(
      `Server answered option ${named(option)} with unexpected reply ${namedReply(reply.type)}`,
      { abort: true },
    );
  }
  if (reply.length !== 0) {
    throw new NegotiationError(
      `Option ${option} ('${nameOfOption(option)}') response length is ${reply.length} (it should be zero)`,
      { abort: true },
    );
  }
  return true;
}

function isError(reply: OptionReply): boolean {
  return reply.type >= NBD_REP_FLAG_ERROR;
}

/** Returns when the client may go on without this option, else throws. */
function* receiveError({ option, type, length }: OptionReply, strict: boolean): Negotiation<void> {
  if (length > NBD_MAX_STRING_SIZE) {
    throw new NegotiationError(`server error ${namedReply(type)} message is too long`, {
      abort: true,
    });
  }
  const said =
    length === 0
      ? ''
      : printable(yield* receive(length, `option error ${namedReply(type)} message`));
  if (type === NBD_REP_ERR_UNSUP || !strict) return;
  const text = errorTexts[type]?.(named(option));
  throw new NegotiationError(text ?? `Unknown error code when asking for option ${named(option)}`, {
    abort: true,
    hint: [
      ...(type === NBD_REP_ERR_TLS_REQD ? ['Did you forget a valid tls-creds?'] : []),
      ...(said === '' ? [] : [`server reported: ${said}`]),
    ].join('\n'),
  });
}

const errorTexts: Readonly<Record<number, (option: string) => string>> = {
  [NBD_REP_ERR_POLICY]: (option) => `Denied by server for option ${option}`,
  [NBD_REP_ERR_INVALID]: (option) => `Invalid parameters for option ${option}`,
  [NBD_REP_ERR_PLATFORM]: (option) => `Server lacks support for option ${option}`,
  [NBD_REP_ERR_TLS_REQD]: (option) => `TLS negotiation required before option ${option}`,
  [NBD_REP_ERR_UNKNOWN]: () => 'Requested export not available',
  [NBD_REP_ERR_SHUTDOWN]: (option) => `Server shutting down before option ${option}`,
  [NBD_REP_ERR_BLOCK_SIZE_REQD]: (option) => `Server requires INFO_BLOCK_SIZE for option ${option}`,
};

export function named(option: number): string {
  return `${option} (${nameOfOption(option)})`;
}

export function namedReply(type: number): string {
  return `${type} (${nameOfReply(type)})`;
}

/** What a server says may end up on a terminal. */
function printable(bytes: Buffer): string {
  return bytes.toString('utf8').replaceAll(/\p{Cc}/gu, '?');
}
