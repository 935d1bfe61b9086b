// NBD_CMD_BLOCK_STATUS: one chunk of extents for each context that the client selected.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import { whenDone } from '../../block/maybe-promise.ts';
import { NBD_CMD_FLAG_REQ_ONE } from '../../net/nbd/protocol.ts';
import type { NbdRequest } from '../../net/nbd/wire.ts';
import { Extents, MAX_EXTENTS, type MetaContext } from './meta-context.ts';
import { replyExtents } from './reply.ts';
import { CommandError, type Session } from './session.ts';

/** Bytes of memory for one extent: as it is collected, and on the wire. */
const EXTENT_MEMORY = 64;

/** Bytes that the shortest extent of any size worth counting covers. */
const SHORTEST_EXTENT = 512;

/** Bytes of memory that a status request may take at a time: those of one context's extents. */
export function statusMemory(request: NbdRequest): number {
  if ((request.flags & NBD_CMD_FLAG_REQ_ONE) !== 0) return EXTENT_MEMORY;
  return EXTENT_MEMORY * Math.min(MAX_EXTENTS, Math.ceil(request.length / SHORTEST_EXTENT));
}

/** Replies to a status request. Throws or rejects CommandError. */
export function blockStatus(session: Session, request: NbdRequest): MaybePromise<void> {
  const negotiated = session.contexts;
  const wanted = filterOf(request, negotiated);
  // In this order since there are extended headers.
  if (request.length === 0 && (wanted.length > 0 || !request.extended)) {
    throw new CommandError(errno.EINVAL, 'need non-zero length');
  }
  if (negotiated.length === 0) {
    throw new CommandError(errno.EINVAL, 'CMD_BLOCK_STATUS not negotiated');
  }
  if (wanted.length === 0) {
    throw new CommandError(errno.EINVAL, 'CMD_BLOCK_STATUS payload not valid');
  }
  return replyContexts(session, request, wanted, 0);
}

/** The negotiated contexts that a request asks for, in the order of their ids. */
function filterOf(
  { contextIds }: NbdRequest,
  negotiated: readonly MetaContext[],
): readonly MetaContext[] {
  if (contextIds === undefined) return negotiated;
  return negotiated.filter((context) => contextIds.includes(context.id));
}

/** Replies for `contexts` from the `index`th on. */
function replyContexts(
  session: Session,
  request: NbdRequest,
  contexts: readonly MetaContext[],
  index: number,
): MaybePromise<void> {
  const context = contexts[index];
  if (context === undefined) return undefined;
  const extents = new Extents(request.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : MAX_EXTENTS);
  const finish = (): MaybePromise<void> => {
    const done = index === contexts.length - 1;
    replyExtents(session, request, { contextId: context.id, extents: extents.list, done });
    if (done) return undefined;
    return whenDone(session.room(), () => replyContexts(session, request, contexts, index + 1));
  };
  const { offset, length } = request;
  let later: MaybePromise<void>;
  try {
    later = context.collect(session.backend, { offset, length }, extents);
  } catch (error) {
    throw statusError(error);
  }
  if (later === undefined) return finish();
  return later.then(finish, (error: unknown) => {
    throw statusError(error);
  });
}

function statusError(error: unknown): unknown {
  if (!(error instanceof IoError)) return error;
  return new CommandError(error.errno, "can't get block status");
}
