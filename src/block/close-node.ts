// How nodes end: closed when nobody uses them any more, flushed before, and then their children, if those were used by them only.

import type { Logger } from '../base/log.ts';
import type { BlockNode } from './block-node.ts';
import { drainBegin } from './drain.ts';
import { detachEdge } from './edges.ts';
import { flush } from './io-flush.ts';

/** What the graph knows of its nodes, as far as it has to hear of their end. */
export interface NodeRegister {
  readonly log: Logger;
  forget(node: BlockNode): void;
}

/** Closes a node unless somebody uses it or the monitor keeps it. What fails is logged and does not stop the rest. */
export async function closeUnused(register: NodeRegister, node: BlockNode): Promise<void> {
  if (node.monitorOwned || node.parents.length > 0 || node.holds > 0) return;
  if (node.phase !== 'open') return;
  node.phase = 'closing';
  const end = await drainBegin(node);
  end();
  await flushForClose(register, node);
  await closeDriver(register, node);
  await releaseChildren(register, node);
  register.forget(node);
}

/** Lets go of a node whose opening has failed, as far as it has come. */
export async function abandon(register: NodeRegister, node: BlockNode): Promise<void> {
  if (node.phase === 'open') await closeDriver(register, node);
  await releaseChildren(register, node);
  register.forget(node);
}

async function flushForClose({ log }: NodeRegister, node: BlockNode): Promise<void> {
  try {
    await flush(node);
  } catch (error) {
    log.error(`Failed to flush node '${node.nodeName}': ${String(error)}`);
  }
}

async function closeDriver({ log }: NodeRegister, node: BlockNode): Promise<void> {
  node.phase = 'closing';
  try {
    await node.driver.close?.(node);
  } catch (error) {
    log.error(`Failed to close node '${node.nodeName}': ${String(error)}`);
  }
}

async function releaseChildren(register: NodeRegister, node: BlockNode): Promise<void> {
  for (const child of [...node.children].reverse()) {
    detachEdge(child);
    await closeUnused(register, child.node);
  }
}
