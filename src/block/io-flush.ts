// Flushing a node: what its driver caches, the disk below it, then its children. Skipped where nothing was written since the
// last flush, and for the disk with cache.no-flush.

import type { MaybePromise } from '../base/io-buffer.ts';
import type { BlockChild } from './block-child.ts';
import { PERM_WRITE, PERM_WRITE_UNCHANGED } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** Makes every write that completed before durable. */
export function flush(node: BlockNode): MaybePromise<void> {
  if (!node.writable) return undefined;
  if (node.driver.flushesChildren === true) return flushAlways(node);
  const generation = node.writeGeneration;
  node.file?.debugEvent('flush_to_os');
  if (node.driver.flushToOs === undefined && !needsDisk(node, generation)) {
    return flushChildren(node);
  }
  return flushInTurn(node, generation);
}

async function flushAlways(node: BlockNode): Promise<void> {
  node.requests.enter();
  try {
    await node.driver.flush?.(node);
  } finally {
    node.requests.leave();
  }
}

function needsDisk(node: BlockNode, generation: number): boolean {
  return !node.cacheNoFlush && node.flushedGeneration < generation;
}

/** One flush of a node at a time; those that wait are often covered by the one before. */
async function flushInTurn(node: BlockNode, generation: number): Promise<void> {
  node.requests.enter();
  try {
    while (node.flushing !== undefined) await node.flushing;
    let finished = (): void => {};
    node.flushing = new Promise((resolve) => {
      finished = resolve;
    });
    try {
      await flushNow(node, generation);
    } finally {
      node.flushing = undefined;
      finished();
    }
  } finally {
    node.requests.leave();
  }
}

async function flushNow(node: BlockNode, generation: number): Promise<void> {
  await node.driver.flushToOs?.(node);
  // Writes that came after the request but are complete by now are covered as well.
  const covered = node.writeGeneration;
  const disk = needsDisk(node, generation);
  if (disk) {
    node.file?.debugEvent('flush_to_disk');
    await node.driver.flush?.(node);
  }
  await flushChildren(node);
  if (disk) node.flushedGeneration = Math.max(node.flushedGeneration, covered);
}

function flushChildren(node: BlockNode): MaybePromise<void> {
  const [first, second] = node.children;
  if (second !== undefined) return flushAll(node.children);
  return first !== undefined && isWritten(first) ? flush(first.node) : undefined;
}

/** Flushes them all, whichever fails; the first failure counts. */
async function flushAll(children: readonly BlockChild[]): Promise<void> {
  const written = children.filter(isWritten);
  const results = await Promise.allSettled(written.map(async (child) => flush(child.node)));
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}

function isWritten(child: BlockChild): boolean {
  return (child.perm & (PERM_WRITE | PERM_WRITE_UNCHANGED)) !== 0;
}
