// NBD_OPT_LIST: for servers that know no NBD_OPT_GO, so that an export that they do not have is told from other troubles.

import {
  NBD_MAX_BUFFER_SIZE,
  NBD_MAX_STRING_SIZE,
  NBD_OPT_LIST,
  NBD_REP_ACK,
  NBD_REP_SERVER,
} from '../../../net/nbd/protocol.ts';
import {
  type Negotiation,
  NegotiationError,
  namedReply,
  type OptionReply,
  optionRequest,
  receive,
  replies,
} from './option.ts';

const LENGTH_SIZE = 4;

/** Throws when the server has exports, but not this one. */
export function* checkListed(wanted: Buffer): Negotiation<void> {
  yield optionRequest(NBD_OPT_LIST);
  let isEmpty = true;
  let isFound = false;
  const isListed = yield* replies(NBD_OPT_LIST, { strict: true }, function* (reply) {
    if (reply.type === NBD_REP_ACK) {
      if (reply.length === 0) return 'done';
      throw new NegotiationError('length too long for option end', { abort: true });
    }
    isEmpty = false;
    if ((yield* receiveName(reply)).equals(wanted)) isFound = true;
    return 'more';
  });
  // A server that tells nothing may have it all the same.
  if (!isListed || isEmpty || isFound) return;
  throw new NegotiationError(`No export with name '${wanted.toString()}' available`, {
    abort: true,
  });
}

//   [ 0 ..  3]  length   bytes of the name
//   [ 4 ..   ]  name
//   [   ..   ]  description
function* receiveName({ type, length }: OptionReply): Negotiation<Buffer> {
  if (type !== NBD_REP_SERVER) {
    throw new NegotiationError(
      `Unexpected reply type ${namedReply(type)}, expected ${namedReply(NBD_REP_SERVER)}`,
      { abort: true },
    );
  }
  if (length < LENGTH_SIZE || length > NBD_MAX_BUFFER_SIZE) {
    throw wrong(`incorrect option length ${length}`);
  }
  const nameLength = (yield* receive(LENGTH_SIZE, 'option name length')).readUInt32BE(0);
  const left = length - LENGTH_SIZE;
  if (left < nameLength || nameLength > NBD_MAX_STRING_SIZE) {
    throw wrong("incorrect name length in server's list response");
  }
  const name = Buffer.from(yield* receive(nameLength, 'export name'));
  const descriptionLength = left - nameLength;
  if (descriptionLength > NBD_MAX_STRING_SIZE) {
    throw wrong("incorrect description length in server's list response");
  }
  yield* receive(descriptionLength, 'export description');
  return name;
}

function wrong(text: string): NegotiationError {
  return new NegotiationError(text, { abort: true });
}
