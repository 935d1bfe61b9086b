// The driver `quorum`: several nodes that hold the same. What is written goes to all of them, what is read is what enough of
// them agree on.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { EventSink } from '../../qapi/event-sink.ts';
import type { BlockdevOptionsQuorum, QuorumOpType } from '../../qapi/generated/types.ts';
import type { BlockChild } from '../block-child.ts';
import {
  BLOCK_DATA,
  BLOCK_ZERO,
  type BlockDriver,
  type BlockStatus,
  CHILD_DATA,
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
  WRITE_UNCHANGED,
} from '../block-driver.ts';
import { type BlockNode, SECTOR } from '../block-node.ts';
import { blockStatus } from '../block-status.ts';

export interface QuorumState {
  readonly events: EventSink;
  readonly log: Logger;
  /** How many have to agree. */
  readonly threshold: number;
  /** Two that always have to agree. */
  readonly isBlkverify: boolean;
  readonly rewrites: boolean;
  /** Only one is read, the next when that fails. */
  readonly isFifo: boolean;
  /** In the order of their names, which replacing one does not change. */
  readonly children: BlockChild[];
  /** What is behind `children.` in the name of one more child. */
  nextChild: number;
}

type QuorumNode = BlockNode<QuorumState>;

interface Area {
  readonly type: QuorumOpType;
  readonly offset: number;
  readonly length: number;
}

export const quorum: BlockDriver<QuorumState, BlockdevOptionsQuorum> = {
  name: 'quorum',
  kind: 'format',
  strongOptions: ['vote-threshold', 'blkverify', 'rewrite-corrupted', 'read-pattern'],
  childList: { name: 'children', of: ({ state }) => state.children },
  flushesChildren: true,

  async open(node, options, context) {
    const { events, log } = context;
    const settings = settingsFrom(options);
    // Its own permissions are asked while the children are attached.
    const children: BlockChild[] = [];
    node.state = { ...settings, events, log, children, nextChild: options.children.length };
    for (const [index, reference] of options.children.entries()) {
      children.push(await context.openChild(`children.${index}`, reference, CHILD_DATA));
    }
    node.supportedWriteFlags = WRITE_UNCHANGED;
    refreshZeroFlags(node);
    return node.state;
  },

  length(node) {
    const [length = 0, ...others] = node.state.children.map((child) => child.node.length);
    if (others.some((other) => other !== length))
      throw new IoError(errno.EIO, { syscall: 'length' });
    return length;
  },
  read(node, offset, length, into, at) {
    const area: Area = { type: 'read', offset, length };
    return node.state.isFifo ? readOne(node, area, into, at) : readAll(node, area, into, at);
  },
  write(node, offset, length, from, at, flags) {
    return inAll(node, { type: 'write', offset, length }, (child) =>
      child.write(offset, length, from, at, flags),
    );
  },
  writeZeroes(node, offset, length, flags) {
    return inAll(node, { type: 'write', offset, length }, (child) =>
      child.writeZeroes(offset, length, flags),
    );
  },
  async flush(node) {
    const failures = await attempt(node, { type: 'flush', offset: 0, length: 0 }, (child) =>
      child.flush(),
    );
    if (node.state.children.length - failures.size < node.state.threshold)
      throw mostCommon(failures);
  },
  async blockStatus(node, offset, length, wantZero) {
    let zero = length;
    let data = 0;
    for (const child of node.state.children) {
      const found = await statusOf(child, { offset, length, wantZero });
      if (found instanceof IoError) {
        reportBad(node, { type: 'read', offset, length }, child, found);
        return { status: BLOCK_DATA, length };
      }
      if ((found.status & BLOCK_ZERO) !== 0) zero = Math.min(zero, found.length);
      else data = Math.max(data, found.length);
    }
    return data > 0 ? { status: BLOCK_DATA, length: data } : { status: BLOCK_ZERO, length: zero };
  },

  childChanges: {
    nextName({ state: { isBlkverify, nextChild } }) {
      if (isBlkverify) throw new QmpError('Cannot add a child to a quorum in blkverify mode');
      return `children.${nextChild}`;
    },
    added(node, child) {
      node.state.children.push(child);
      node.state.nextChild++;
      refreshZeroFlags(node);
    },
    checkRemovable({ state: { threshold, children } }) {
      if (children.length > threshold) return;
      throw new QmpError(
        `The number of children cannot be lower than the vote threshold ${threshold}`,
      );
    },
    removed(node, child) {
      const { state } = node;
      state.children.splice(state.children.indexOf(child), 1);
      // Only the name of the youngest is used again.
      if (child.name === `children.${state.nextChild - 1}`) state.nextChild--;
      refreshZeroFlags(node);
    },
  },

  childPermissions(node, _role, { perm, shared }) {
    return {
      perm: node.state.rewrites ? perm | PERM_WRITE : perm,
      // Whoever else wrote would make them differ.
      shared: shared & (PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED),
    };
  },
};

/** What all children understand. */
function refreshZeroFlags(node: QuorumNode): void {
  const common = node.state.children.reduce(
    (flags, child) => flags & child.node.supportedZeroFlags,
    FUA | MAY_UNMAP | NO_FALLBACK,
  );
  node.supportedZeroFlags = common | WRITE_UNCHANGED;
}

async function readOne(node: QuorumNode, area: Area, into: IoBuffer, at: number): Promise<void> {
  let last: unknown;
  for (const child of node.state.children) {
    try {
      await child.read(area.offset, area.length, into, at);
      return;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      reportBad(node, area, child, error);
      last = error;
    }
  }
  throw last;
}

async function readAll(node: QuorumNode, area: Area, into: IoBuffer, at: number): Promise<void> {
  const { threshold } = node.state;
  const { offset, length } = area;
  const buffers = new Map<BlockChild, IoBuffer>();
  for (const child of node.state.children) buffers.set(child, node.pool.take(length));
  const bytesOf = (child: BlockChild): Buffer =>
    (buffers.get(child) as IoBuffer).bytes.subarray(0, length);
  const failures = await attempt(node, area, (child) =>
    child.read(offset, length, buffers.get(child) as IoBuffer, 0),
  );
  const readers = node.state.children.filter((child) => !failures.has(child));
  if (readers.length < threshold) throw failure(node, area, mostCommon(failures));
  const versions: BlockChild[][] = [];
  for (const child of readers) {
    const version = versions.find(([first]) => first && bytesOf(first).equals(bytesOf(child)));
    if (version === undefined) versions.push([child]);
    else version.push(child);
  }
  if (versions.length > 1 && node.state.isBlkverify) throw mismatch(node, area);
  const most = Math.max(...versions.map((version) => version.length));
  // Of several that have as many votes it is the one that was seen last.
  const winner = versions.findLast((version) => version.length === most) ?? [];
  const [best] = winner;
  if (best === undefined) return;
  if (versions.length > 1 && winner.length < threshold) {
    throw failure(node, area, new IoError(errno.EIO, { syscall: 'vote', offset }));
  }
  const bad = readers.filter((child) => !winner.includes(child));
  for (const child of bad) reportBad(node, area, child);
  bytesOf(best).copy(into.bytes, at);
  if (node.state.rewrites) {
    const right = buffers.get(best) as IoBuffer;
    // An attempt to mend: whether it works is seen by the next read.
    await Promise.allSettled(bad.map(async (child) => child.write(offset, length, right, 0)));
  }
  for (const buffer of buffers.values()) node.pool.give(buffer);
}

async function inAll(
  node: QuorumNode,
  area: Area,
  request: (child: BlockChild) => MaybePromise<void>,
): Promise<void> {
  const failures = await attempt(node, area, request);
  if (node.state.children.length - failures.size >= node.state.threshold) return;
  throw failure(node, area, mostCommon(failures));
}

/** Makes the request of every child; answers who failed, in the order of the children. */
async function attempt(
  node: QuorumNode,
  area: Area,
  request: (child: BlockChild) => MaybePromise<void>,
): Promise<Map<BlockChild, IoError>> {
  const results = await Promise.allSettled(
    node.state.children.map(async (child) => request(child)),
  );
  const failures = new Map<BlockChild, IoError>();
  for (const [index, child] of node.state.children.entries()) {
    const result = results[index];
    if (result?.status !== 'rejected') continue;
    const reason: unknown = result.reason;
    if (!(reason instanceof IoError)) throw reason;
    reportBad(node, area, child, reason);
    failures.set(child, reason);
  }
  return failures;
}

/** The error that most of them have; of several the one that was seen last. */
function mostCommon(failures: ReadonlyMap<BlockChild, IoError>): IoError {
  const errors = [...failures.values()];
  const votes = (error: IoError): number =>
    errors.filter((other) => other.errno === error.errno).length;
  const most = Math.max(...errors.map(votes));
  const winner = errors.findLast((error) => votes(error) === most);
  return winner ?? new IoError(errno.EIO, { syscall: 'vote' });
}

function failure(node: QuorumNode, area: Area, error: IoError): IoError {
  node.state.events.emit('QUORUM_FAILURE', { reference: node.nodeName, ...sectorsOf(area) });
  return error;
}

/** The reference ends its process. */
function mismatch(node: QuorumNode, { offset, length }: Area): IoError {
  node.state.log.error(`quorum: offset=${offset} bytes=${length} contents mismatch`);
  return new IoError(errno.EIO, { syscall: 'compare', offset });
}

function reportBad(node: QuorumNode, area: Area, child: BlockChild, error?: IoError): void {
  node.state.events.emit('QUORUM_REPORT_BAD', {
    type: area.type,
    ...(error === undefined ? {} : { error: error.reason }),
    'node-name': child.node.nodeName,
    ...sectorsOf(area),
  });
}

function sectorsOf({ offset, length }: Area): { 'sector-num': number; 'sectors-count': number } {
  const start = Math.floor(offset / SECTOR);
  return { 'sector-num': start, 'sectors-count': Math.ceil((offset + length) / SECTOR) - start };
}

async function statusOf(
  child: BlockChild,
  query: { readonly offset: number; readonly length: number; readonly wantZero: boolean },
): Promise<BlockStatus | IoError> {
  try {
    return await blockStatus(child.node, query.offset, query.length, query.wantZero);
  } catch (error) {
    if (error instanceof IoError) return error;
    throw error;
  }
}

/** Throws QmpError. */
function settingsFrom(
  options: BlockdevOptionsQuorum,
): Omit<QuorumState, 'events' | 'log' | 'children' | 'nextChild'> {
  const { children, 'vote-threshold': threshold } = options;
  if (children.length < 1) throw new QmpError('Number of provided children must be 1 or more');
  if (threshold < 1) throw new QmpError("Parameter 'vote-threshold' expects a value >= 1");
  if (threshold > children.length) {
    throw new QmpError('threshold may not exceed children count');
  }
  const isFifo = options['read-pattern'] === 'fifo';
  const isBlkverify = !isFifo && options.blkverify === true;
  const rewrites = !isFifo && options['rewrite-corrupted'] === true;
  if (isBlkverify && (children.length !== 2 || threshold !== 2)) {
    throw new QmpError(
      'blkverify=on can only be set if there are exactly two files and vote-threshold is 2',
    );
  }
  if (rewrites && isBlkverify) {
    throw new QmpError('rewrite-corrupted=on cannot be used with blkverify=on');
  }
  return { threshold, isBlkverify, rewrites, isFifo };
}
