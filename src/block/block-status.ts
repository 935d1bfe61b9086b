// What lies where: data, zeroes, allocated or not, through raw and filters to the node that knows.

import type { MaybePromise } from '../base/io-buffer.ts';
import type { BlockStatus } from './block-driver.ts';
import {
  BLOCK_ALLOCATED,
  BLOCK_DATA,
  BLOCK_EOF,
  BLOCK_OFFSET_VALID,
  BLOCK_RAW,
  BLOCK_RECURSE,
  BLOCK_ZERO,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { alignedDown, alignedUp, inFlight } from './io-driver.ts';
import { whenDone } from './maybe-promise.ts';

/** What to look at. `wantZero` false: only whether it is allocated matters, answer fast. */
export interface StatusQuery {
  readonly offset: number;
  readonly length: number;
  readonly wantZero: boolean;
}

/**
 * The status at `offset` and how far it goes, at most `length`: of the first node of the backing chain that has the area
 * allocated. At or beyond the end: BLOCK_EOF and length 0.
 */
export function blockStatus(
  node: BlockNode,
  offset: number,
  length: number,
  wantZero = true,
): MaybePromise<BlockStatus> {
  const query = { offset, length, wantZero };
  return whenDone(nodeStatus(node, query), (top) => {
    const below = filteredOrBacking(node);
    if (below === undefined || top.length === 0 || isAllocated(top)) return top;
    return statusBelow(below, top, query);
  });
}

/** How deep in the backing chain an area is allocated: 1 is the top, 0 nowhere. */
export interface AllocationDepth {
  readonly depth: number;
  /** Bytes from the asked offset that share it; 0 at or beyond the end. */
  readonly length: number;
}

/** The depth at `offset` and how far it goes, at most `length`. A filter counts as a layer, as in the reference. */
export function allocationDepth(
  node: BlockNode,
  offset: number,
  length: number,
): MaybePromise<AllocationDepth> {
  return depthFrom(node, { offset, length, wantZero: false }, 1);
}

function depthFrom(
  node: BlockNode,
  query: StatusQuery,
  depth: number,
): MaybePromise<AllocationDepth> {
  return whenDone(nodeStatus(node, query), (found) => {
    const { length } = found;
    if (length === 0) {
      // A backing file that is shorter has allocated, so to speak, the zeroes that it would have shown.
      return depth === 1 ? { depth: 0, length } : { depth, length: query.length };
    }
    if (isAllocated(found)) return { depth, length };
    const below = filteredOrBacking(node);
    return below === undefined
      ? { depth: 0, length }
      : depthFrom(below, { ...query, length }, depth + 1);
  });
}

/** As blockStatus, but of this node alone: BLOCK_ALLOCATED is missing where its backing file shows through. */
export function nodeStatus(node: BlockNode, query: StatusQuery): MaybePromise<BlockStatus> {
  const end = node.length;
  if (query.offset >= end) return { status: BLOCK_EOF, length: 0 };
  if (query.length === 0) return { status: 0, length: 0 };
  const length = Math.min(query.length, end - query.offset);
  return whenDone(driverStatus(node, { ...query, length }), (found) =>
    query.offset + found.length === end ? { ...found, status: found.status | BLOCK_EOF } : found,
  );
}

/**
 * As nodeStatus, for a node that has all of the area and passes the question on: where the child ends says nothing about it, and
 * behind that end, if the child became shorter, it reads as zeroes.
 */
export function statusInChild(child: BlockNode, query: StatusQuery): MaybePromise<BlockStatus> {
  return whenDone(nodeStatus(child, query), (found) =>
    found.length === 0
      ? { status: BLOCK_ZERO | BLOCK_ALLOCATED, length: query.length, file: child }
      : { ...found, status: found.status & ~BLOCK_EOF },
  );
}

function driverStatus(node: BlockNode, query: StatusQuery): MaybePromise<BlockStatus> {
  const { driver, filtered } = node;
  if (driver.blockStatus === undefined) {
    if (filtered !== undefined) return statusInChild(filtered.node, query);
    const status = BLOCK_DATA | BLOCK_ALLOCATED;
    if (driver.kind !== 'protocol') return { status, length: query.length };
    return {
      status: status | BLOCK_OFFSET_VALID,
      length: query.length,
      hostOffset: query.offset,
      file: node,
    };
  }
  const { requestAlignment } = node.limits;
  const start = alignedDown(query.offset, requestAlignment);
  const end = alignedUp(query.offset + query.length, requestAlignment);
  const answer = driver.blockStatus(node, start, end - start, query.wantZero);
  return whenDone(answer instanceof Promise ? inFlight(node, answer) : answer, (found) =>
    explained(node, query, cutTo(query, start, found)),
  );
}

/** The driver's answer about a wider area, cut to the one that was asked for. */
function cutTo(query: StatusQuery, start: number, found: BlockStatus): BlockStatus {
  const skipped = query.offset - start;
  const length = Math.min(found.length - skipped, query.length);
  if (found.hostOffset === undefined) return { ...found, length };
  return { ...found, length, hostOffset: found.hostOffset + skipped };
}

/** Follows BLOCK_RAW and BLOCK_RECURSE, and says what follows from data, zeroes or nothing being there. */
function explained(
  node: BlockNode,
  query: StatusQuery,
  found: BlockStatus,
): MaybePromise<BlockStatus> {
  const { file, hostOffset } = found;
  if ((found.status & BLOCK_RAW) !== 0) {
    if (file === undefined || hostOffset === undefined)
      throw new Error('BLOCK_RAW without a place');
    return statusInChild(file, {
      offset: hostOffset,
      length: found.length,
      wantZero: query.wantZero,
    });
  }
  let { status } = found;
  if ((status & (BLOCK_DATA | BLOCK_ZERO)) !== 0) {
    status |= BLOCK_ALLOCATED;
  } else if (node.driver.supportsBacking === true) {
    if (node.backing === undefined) status |= BLOCK_ZERO;
    else if (query.wantZero && query.offset >= node.backing.node.length) status |= BLOCK_ZERO;
  }
  const known = { ...found, status: status & ~BLOCK_RECURSE };
  const looksDeeper =
    query.wantZero && (status & BLOCK_RECURSE) !== 0 && (status & BLOCK_ZERO) === 0;
  if (!looksDeeper || file === undefined || file === node || hostOffset === undefined) return known;
  const below = { offset: hostOffset, length: found.length, wantZero: true };
  return whenDone(nodeStatus(file, below), (inFile) => {
    const ends = (inFile.status & BLOCK_EOF) !== 0;
    // A format may have data beyond the end of its file: they read as zeroes.
    if (ends && (inFile.length === 0 || (inFile.status & BLOCK_ZERO) !== 0)) {
      return { ...known, status: known.status | BLOCK_ZERO };
    }
    return {
      ...known,
      status: known.status | (inFile.status & BLOCK_ZERO),
      length: inFile.length,
    };
  });
}

/** Walks down from `node`, which is below an unallocated area, to the node that has it. */
function statusBelow(
  node: BlockNode,
  top: BlockStatus,
  query: StatusQuery,
): MaybePromise<BlockStatus> {
  const end = (top.status & BLOCK_EOF) !== 0 ? query.offset + top.length : -1;
  const withEnd = (found: BlockStatus): BlockStatus => {
    const status = found.status & ~BLOCK_EOF;
    return { ...found, status: query.offset + found.length === end ? status | BLOCK_EOF : status };
  };
  const asked = { ...query, length: top.length };
  return whenDone(nodeStatus(node, asked), (found) => {
    if (found.length === 0) {
      // The backing file is shorter: what it would have shown there is zeroes.
      return withEnd({ status: BLOCK_ZERO | BLOCK_ALLOCATED, length: top.length, file: node });
    }
    const below = filteredOrBacking(node);
    if (isAllocated(found) || below === undefined) return withEnd(found);
    return whenDone(
      statusBelow(
        below,
        { ...found, status: found.status & ~BLOCK_EOF },
        { ...query, length: found.length },
      ),
      withEnd,
    );
  });
}

/** The node, and what shines through below it: a filter's child, a backing file. */
export function* chainOf(top: BlockNode): Generator<BlockNode> {
  for (let node: BlockNode | undefined = top; node !== undefined; node = filteredOrBacking(node)) {
    yield node;
  }
}

function filteredOrBacking(node: BlockNode): BlockNode | undefined {
  return (node.filtered ?? node.backing)?.node;
}

function isAllocated(found: BlockStatus): boolean {
  return (found.status & BLOCK_ALLOCATED) !== 0;
}
