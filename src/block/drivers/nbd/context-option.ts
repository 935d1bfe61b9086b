// NBD_OPT_SET_META_CONTEXT: asks for the one context that block status is wanted of.

import { encodeContextRequest } from '../../../net/nbd/client-wire.ts';
import {
  CONTEXT_ID_SIZE,
  NBD_MAX_STRING_SIZE,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ACK,
  NBD_REP_META_CONTEXT,
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

/** The context's id, or undefined when the server does not have it. */
export function* negotiateContext({
  name,
  context,
}: {
  readonly name: Buffer;
  readonly context: Buffer;
}): Negotiation<number | undefined> {
  yield optionRequest(NBD_OPT_SET_META_CONTEXT, encodeContextRequest(name, [context]));
  let id: number | undefined;
  const isGranted = yield* replies(NBD_OPT_SET_META_CONTEXT, { strict: false }, function* (reply) {
    if (isEnd(reply)) return 'done';
    const granted = yield* receiveContext(reply);
    if (id !== undefined) {
      throw new NegotiationError('Server answered with more than one context', { abort: true });
    }
    if (!granted.name.equals(context)) {
      throw new NegotiationError(
        `Failed to negotiate meta context '${context.toString()}', server answered with different context '${granted.name.toString()}'`,
        { abort: true },
      );
    }
    id = granted.id;
    return 'more';
  });
  // An error takes back what was granted before it.
  return isGranted ? id : undefined;
}

function isEnd(reply: OptionReply): boolean {
  if (reply.type !== NBD_REP_ACK) return false;
  if (reply.length !== 0) {
    throw new NegotiationError('Unexpected length to ACK response', { abort: true });
  }
  return true;
}

//   [ 0 ..  3]  id
//   [ 4 ..   ]  name
function* receiveContext({ type, length }: OptionReply): Negotiation<{ id: number; name: Buffer }> {
  if (type !== NBD_REP_META_CONTEXT) {
    throw new NegotiationError(
      `Unexpected reply type ${namedReply(type)}, expected ${namedReply(NBD_REP_META_CONTEXT)}`,
      { abort: true },
    );
  }
  if (length <= CONTEXT_ID_SIZE || length > CONTEXT_ID_SIZE + NBD_MAX_STRING_SIZE) {
    throw new NegotiationError(
      `Failed to negotiate meta context, server answered with unexpected length ${length}`,
      { abort: true },
    );
  }
  const id = (yield* receive(CONTEXT_ID_SIZE, 'context id')).readUInt32BE(0);
  return { id, name: Buffer.from(yield* receive(length - CONTEXT_ID_SIZE, 'context name')) };
}
