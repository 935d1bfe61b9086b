// Drained sections: while one lasts, nobody submits requests to a node, and none is in flight when it begins.

import type { BlockNode } from './block-node.ts';

/**
 * Begins a drained section of `node` and waits until it is idle. Its users, and theirs, hold their requests back until the
 * answer is called.
 */
export async function drainBegin(node: BlockNode): Promise<() => void> {
  quiesce(node);
  for (let busy = firstBusy(node); busy !== undefined; busy = firstBusy(node)) {
    await busy.requests.whenIdle();
  }
  let ended = false;
  return () => {
    if (ended) return;
    ended = true;
    unquiesce(node);
  };
}

/** Drained sections of `node` and all nodes below it. The answer ends them. */
export async function drainSubtree(node: BlockNode): Promise<() => void> {
  const ends = [await drainBegin(node)];
  for (const child of node.children) ends.push(await drainSubtree(child.node));
  return () => {
    for (const end of ends) end();
  };
}

/** Runs `work` while `node` is drained. */
export async function whileDrained<T>(node: BlockNode, work: () => Promise<T>): Promise<T> {
  const end = await drainBegin(node);
  try {
    return await work();
  } finally {
    end();
  }
}

/** Nested: each call needs its unquiesce. */
export function quiesce(node: BlockNode): void {
  if (node.drained++ > 0) return;
  for (const user of node.parents) user.parent.drainBegin();
  if (node.phase !== 'opening') node.driver.drainBegin?.(node);
}

export function unquiesce(node: BlockNode): void {
  if (--node.drained > 0) return;
  if (node.phase !== 'opening') node.driver.drainEnd?.(node);
  for (const user of node.parents.slice()) user.parent.drainEnd();
}

/** The node itself or one above it that has requests in flight: those may still come down. */
function firstBusy(node: BlockNode): BlockNode | undefined {
  if (node.requests.inFlight > 0) return node;
  for (const user of node.parents) {
    const above = user.parent.parentNode;
    const busy = above === undefined ? undefined : firstBusy(above);
    if (busy !== undefined) return busy;
  }
  return undefined;
}
