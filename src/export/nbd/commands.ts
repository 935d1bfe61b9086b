// The commands of the transmission phase. A row states the facts; request.ts and transmission.ts enforce them.

import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import { FUA, MAY_UNMAP, NO_FALLBACK } from '../../block/block-driver.ts';
import type { Outcome } from '../../block/completion.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  type NbdCommand,
} from '../../net/nbd/protocol.ts';
import type { NbdRequest } from '../../net/nbd/wire.ts';
import { blockStatus, statusMemory } from './block-status.ts';
import { footprint } from './buffer-pool.ts';
import { read } from './read.ts';
import type { RequestRules } from './request.ts';
import type { Session } from './session.ts';

export interface CommandRow extends RequestRules {
  /** `own`: run() writes the reply; `done`: it is a success without data once run() has ended. */
  readonly reply: 'done' | 'own';
  /** Bytes of memory that a request takes while it is under way, at most about. */
  memory(request: NbdRequest): number;
  /** The text of an error reply. */
  readonly failure: string;
  /** Carries a checked request out. Fails with IoError or CommandError. */
  run(session: Session, request: NbdRequest): Outcome;
}

/** FUA is let pass on every command; only where it means something does a row act on it. */
const ANY = NBD_CMD_FLAG_FUA;

const none = (): number => 0;
const dataMemory = ({ length }: NbdRequest): number => footprint(length);

export const commands = {
  [NBD_CMD_READ]: {
    flags: ANY,
    writes: false,
    limited: true,
    payload: 'none',
    reply: 'own',
    memory: dataMemory,
    failure: 'reading from file failed',
    run: read,
  },
  [NBD_CMD_WRITE]: {
    flags: ANY,
    writes: true,
    limited: true,
    payload: 'request',
    reply: 'done',
    memory: dataMemory,
    failure: 'writing to file failed',
    run: write,
  },
  // Ends the connection before any check; see transmission.ts.
  [NBD_CMD_DISC]: {
    flags: ANY,
    writes: false,
    limited: false,
    payload: 'none',
    reply: 'own',
    memory: none,
    failure: '',
    run() {},
  },
  [NBD_CMD_FLUSH]: {
    flags: ANY,
    writes: false,
    limited: false,
    payload: 'none',
    reply: 'done',
    memory: none,
    failure: 'flush failed',
    run: (session) => session.backend.flush(),
  },
  [NBD_CMD_TRIM]: {
    flags: ANY,
    writes: true,
    limited: false,
    payload: 'none',
    reply: 'done',
    memory: none,
    failure: 'discard failed',
    run: trim,
  },
  [NBD_CMD_CACHE]: {
    flags: ANY,
    writes: false,
    limited: true,
    payload: 'none',
    reply: 'done',
    memory: dataMemory,
    failure: 'caching data failed',
    run: ({ backend }, { offset, length }) =>
      length === 0 ? undefined : backend.prefetch(offset, length),
  },
  [NBD_CMD_WRITE_ZEROES]: {
    flags: ANY | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    writes: true,
    limited: false,
    payload: 'none',
    reply: 'done',
    memory: none,
    failure: 'writing to file failed',
    run: writeZeroes,
  },
  [NBD_CMD_BLOCK_STATUS]: {
    flags: ANY | NBD_CMD_FLAG_REQ_ONE,
    writes: false,
    limited: false,
    payload: 'filter',
    reply: 'own',
    memory: statusMemory,
    failure: "can't get block status",
    run: blockStatus,
  },
} as const satisfies Record<NbdCommand, CommandRow>;

const rows: readonly CommandRow[] = Array.from(
  { length: NBD_CMD_BLOCK_STATUS + 1 },
  (_, type) => commands[type as NbdCommand],
);

/** The row of a command, or undefined for a type that there is none for. */
export function rowOfCommand(type: number): CommandRow | undefined {
  return rows[type];
}

function write(session: Session, request: NbdRequest): Outcome {
  if (request.length === 0) return 'done';
  return session.backend.startWrite(
    request.offset,
    request.length,
    request.payload as IoBuffer,
    request.payloadAt,
    request.flags & NBD_CMD_FLAG_FUA ? FUA : 0,
    session.underWay,
    request.pipe,
  );
}

function writeZeroes(session: Session, request: NbdRequest): MaybePromise<void> {
  if (request.length === 0) return undefined;
  const { flags } = request;
  return forgettingData(session, () =>
    session.backend.writeZeroes(
      request.offset,
      request.length,
      (flags & NBD_CMD_FLAG_FUA ? FUA : 0) |
        (flags & NBD_CMD_FLAG_NO_HOLE ? 0 : MAY_UNMAP) |
        (flags & NBD_CMD_FLAG_FAST_ZERO ? NO_FALLBACK : 0),
    ),
  );
}

function trim(session: Session, request: NbdRequest): MaybePromise<void> {
  const { backend } = session;
  const { offset, length } = request;
  const discarded =
    length === 0 ? undefined : forgettingData(session, () => backend.discard(offset, length));
  if ((request.flags & NBD_CMD_FLAG_FUA) === 0) return discarded;
  return discarded === undefined ? backend.flush() : discarded.then(() => backend.flush());
}

/** Does what may make holes: what was data before it, and may be looked at meanwhile, need not be afterwards. */
function forgettingData(session: Session, work: () => MaybePromise<void>): MaybePromise<void> {
  session.forgetData();
  return work()?.finally(() => session.forgetData());
}
