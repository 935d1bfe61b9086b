// Metadata contexts: what NBD_CMD_BLOCK_STATUS can tell about a range. A context is a row here; the handshake's queries, the
// ids and the replies follow from it.

import type { MaybePromise } from '../../base/io-buffer.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import {
  BLOCK_ALLOCATED,
  BLOCK_DATA,
  BLOCK_ZERO,
  type BlockStatus,
  type BlockStatusFlags,
} from '../../block/block-driver.ts';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from './protocol.ts';

export interface MetaContext {
  /** As clients ask for it: `base:allocation`. */
  readonly name: string;
  readonly id: number;
  /** Queries of NBD_OPT_LIST_META_CONTEXT that stand for all contexts of a kind. */
  readonly families: readonly string[];
  /** Adds the extents of a range until it ends or `extents` is full. Throws or rejects IoError. */
  collect(
    backend: BlockBackend,
    range: { readonly offset: number; readonly length: number },
    extents: Extents,
  ): MaybePromise<void>;
}

/** Extents of one reply: 1 MiB of them, as the reference limits it. */
export const MAX_EXTENTS = (1024 * 1024) / 8;

/** How many pieces of a range are looked at before others get their turn. */
const PIECES_PER_TURN = 256;

const baseAllocation: MetaContext = {
  name: 'base:allocation',
  id: 0,
  families: ['base:'],
  collect: (backend, range, extents) =>
    collectPieces(backend, range, extents, {
      wantZero: true,
      flagsOf: (status) =>
        (status & BLOCK_DATA ? 0 : NBD_STATE_HOLE) | (status & BLOCK_ZERO ? NBD_STATE_ZERO : 0),
    }),
};

const allocationDepth: MetaContext = {
  name: 'qemu:allocation-depth',
  id: 1,
  families: ['qemu:'],
  // Without backing files there is one layer to have it, or none.
  collect: (backend, range, extents) =>
    collectPieces(backend, range, extents, {
      wantZero: false,
      flagsOf: (status) => (status & BLOCK_ALLOCATED ? 1 : 0),
    }),
};

/** The contexts of an export, in the order of their ids; dirty bitmaps come third. */
export function contextsOf(options: { readonly allocationDepth: boolean }): MetaContext[] {
  return options.allocationDepth ? [baseAllocation, allocationDepth] : [baseAllocation];
}

/**
 * Whether a client's query names a context. A query for a whole family means something only when `listing`; an unknown one
 * names nothing.
 */
export function isNamedBy(context: MetaContext, query: string, listing: boolean): boolean {
  return query === context.name || (listing && context.families.includes(query));
}

/** The extents of one reply: neighbours of the same kind are one. */
export class Extents {
  readonly list: { length: number; flags: number }[] = [];
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** False when there is no room: nothing may be added after that. */
  add(length: number, flags: number): boolean {
    const last = this.list.at(-1);
    if (last?.flags === flags) {
      last.length += length;
      return true;
    }
    if (this.list.length === this.#max) return false;
    this.list.push({ length, flags });
    return true;
  }
}

/** Adds what block status says of each piece of a range. */
function collectPieces(
  backend: BlockBackend,
  range: { readonly offset: number; readonly length: number },
  extents: Extents,
  kind: { readonly wantZero: boolean; readonly flagsOf: (status: BlockStatusFlags) => number },
): MaybePromise<void> {
  const end = range.offset + range.length;
  let offset = range.offset;
  const resume = (): MaybePromise<void> =>
    collectPieces(backend, { offset, length: end - offset }, extents, kind);
  const accept = (piece: BlockStatus): boolean => {
    const length = Math.min(piece.length, end - offset);
    offset += length;
    return extents.add(length, kind.flagsOf(piece.status)) && offset < end;
  };
  for (let pieces = 0; pieces < PIECES_PER_TURN; pieces++) {
    const piece = backend.blockStatus(offset, end - offset, kind.wantZero);
    if (piece instanceof Promise) {
      return piece.then((later) => (accept(later) ? resume() : undefined));
    }
    if (!accept(piece)) return undefined;
  }
  return nextTurn().then(resume);
}

/** Lets everything else that is ready have its turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
