// Metadata contexts: what NBD_CMD_BLOCK_STATUS can tell about a range. A context is a row here; the handshake's queries, the
// ids and the replies follow from it.

import type { MaybePromise } from '../../base/io-buffer.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import { BLOCK_DATA, BLOCK_ZERO } from '../../block/block-driver.ts';
import { whenDone } from '../../block/maybe-promise.ts';
import { NBD_STATE_DIRTY, NBD_STATE_HOLE, NBD_STATE_ZERO } from '../../net/nbd/protocol.ts';
import { wireText } from '../../net/nbd/wire-text.ts';

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
    collectPieces(range, extents, (offset, length) =>
      whenDone(backend.blockStatus(offset, length), (found) => ({
        length: found.length,
        flags:
          (found.status & BLOCK_DATA ? 0 : NBD_STATE_HOLE) |
          (found.status & BLOCK_ZERO ? NBD_STATE_ZERO : 0),
      })),
    ),
};

const allocationDepth: MetaContext = {
  name: 'qemu:allocation-depth',
  id: 1,
  families: ['qemu:'],
  collect: (backend, range, extents) =>
    collectPieces(range, extents, (offset, length) =>
      whenDone(backend.allocationDepth(offset, length), (found) => ({
        length: found.length,
        flags: found.depth,
      })),
    ),
};

/** The id of an export's first dirty bitmap; the others follow. */
const FIRST_BITMAP = 2;

/** What a context needs of a dirty bitmap. */
export interface BitmapSource {
  readonly name: string;
  /** The first dirty area of [start, end), cut at both. */
  nextDirtyArea(
    start: number,
    end: number,
  ): { readonly offset: number; readonly length: number } | undefined;
}

function dirtyBitmap(bitmap: BitmapSource, index: number): MetaContext {
  return {
    name: `qemu:dirty-bitmap:${wireText(bitmap.name)}`,
    id: FIRST_BITMAP + index,
    families: ['qemu:', 'qemu:dirty-bitmap:'],
    collect: (_backend, range, extents) => collectDirty(bitmap, range, extents),
  };
}

/** The contexts of an export, in the order of their ids. */
export function contextsOf(options: {
  readonly allocationDepth: boolean;
  readonly bitmaps: readonly BitmapSource[];
}): MetaContext[] {
  return [
    baseAllocation,
    ...(options.allocationDepth ? [allocationDepth] : []),
    ...options.bitmaps.map(dirtyBitmap),
  ];
}

/**
 * The contexts that a client's query names. A query for a whole family means something only when `listing`; of several of the
 * same name it gets the first; an unknown one names nothing.
 */
export function namedBy(
  contexts: readonly MetaContext[],
  query: string,
  listing: boolean,
): readonly MetaContext[] {
  const exact = contexts.find((context) => context.name === query);
  if (exact !== undefined) return [exact];
  return listing ? contexts.filter((context) => context.families.includes(query)) : [];
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
    if (length === 0) return true;
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

interface Piece {
  /** At least 1, but at the node's end. */
  readonly length: number;
  readonly flags: number;
}

/** Adds each piece of a range, asking for one after the other. */
function collectPieces(
  range: { readonly offset: number; readonly length: number },
  extents: Extents,
  pieceAt: (offset: number, length: number) => MaybePromise<Piece>,
): MaybePromise<void> {
  const end = range.offset + range.length;
  let offset = range.offset;
  const resume = (): MaybePromise<void> =>
    collectPieces({ offset, length: end - offset }, extents, pieceAt);
  const accept = (piece: Piece): boolean => {
    const length = Math.min(piece.length, end - offset);
    offset += length;
    // Without a length the node has become shorter than it was when it was exported.
    return extents.add(length, piece.flags) && length > 0 && offset < end;
  };
  for (let pieces = 0; pieces < PIECES_PER_TURN; pieces++) {
    const piece = pieceAt(offset, end - offset);
    if (piece instanceof Promise) {
      return piece.then((later) => (accept(later) ? resume() : undefined));
    }
    if (!accept(piece)) return undefined;
  }
  return nextTurn().then(resume);
}

/** All at once: the answer is the bitmap at one moment. What lies behind its end is clean. */
function collectDirty(
  bitmap: BitmapSource,
  range: { readonly offset: number; readonly length: number },
  extents: Extents,
): void {
  const end = range.offset + range.length;
  let start = range.offset;
  for (;;) {
    const dirty = bitmap.nextDirtyArea(start, end);
    if (dirty === undefined) break;
    if (!extents.add(dirty.offset - start, 0)) return;
    if (!extents.add(dirty.length, NBD_STATE_DIRTY)) return;
    start = dirty.offset + dirty.length;
  }
  extents.add(end - start, 0);
}

/** Lets everything else that is ready have its turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
