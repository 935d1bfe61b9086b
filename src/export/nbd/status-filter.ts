// The payload that a client may add to NBD_CMD_BLOCK_STATUS with extended headers: which of its metadata contexts it asks for
// this time, and in which range.

import type { IoBuffer } from '../../base/io-buffer.ts';
import { CONTEXT_ID_SIZE, STATUS_PAYLOAD_SIZE } from '../../net/nbd/protocol.ts';
import { decodeStatusPayload, type NbdRequest, setExtendedLength } from '../../net/nbd/wire.ts';
import type { MetaContext } from './meta-context.ts';

/**
 * Takes the payload of a request over into its length and its context ids. A wrong one leaves no range and no id: of a length
 * that cannot be, or with an id that was not negotiated or comes twice.
 */
export function takeFilter(request: NbdRequest, negotiated: readonly MetaContext[]): void {
  request.contextIds = idsIn(request, negotiated);
  if (request.contextIds === undefined) {
    request.contextIds = [];
    setExtendedLength(request, 0, 0);
  }
}

function idsIn(request: NbdRequest, negotiated: readonly MetaContext[]): number[] | undefined {
  const { length } = request;
  const longest = STATUS_PAYLOAD_SIZE + negotiated.length * CONTEXT_ID_SIZE;
  if (length < STATUS_PAYLOAD_SIZE || length > longest || length % CONTEXT_ID_SIZE !== 0) {
    return undefined;
  }
  const { view } = request.payload as IoBuffer;
  const ids = decodeStatusPayload(view, request.payloadAt, request);
  const known = ids.every((id) => negotiated.some((context) => context.id === id));
  return known && new Set(ids).size === ids.length ? ids : undefined;
}
