// Inactive nodes: their images may be changed by another process meanwhile, for which their locks are given up. They can be read,
// as well as that goes, and nothing else. When they become active again, what is known of their images is read anew.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { MaybePromise } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import { QmpError } from '../qapi/errors.ts';
import { PERM_CONSISTENT_READ } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { drainSubtree } from './drain.ts';
import { flush } from './io-flush.ts';
import { refreshLimits } from './limits.ts';
import { refreshPermissions } from './permissions.ts';

/** Makes a node inactive, and those below it that no active node uses. Throws QmpError, everything as before. */
export async function inactivate(node: BlockNode, log: Logger): Promise<void> {
  if (hasActiveParent(node)) throw new QmpError('Node has active parent node');
  await inactivateFrom([node], 'Failed to inactivate node', log);
}

/** As inactivate, for all of `nodes`, users below each other or not. */
export async function inactivateAll(nodes: readonly BlockNode[], log: Logger): Promise<void> {
  const roots = nodes.filter((node) => !hasActiveParent(node));
  await inactivateFrom(roots, 'Failed to inactivate all nodes', log);
}

/** Makes a node and all below it active. Throws QmpError, everything as before. */
export async function activate(node: BlockNode, log: Logger): Promise<void> {
  const end = await drainSubtree(node);
  const sleeping = [...bottomUp(node)].filter((one) => !one.active);
  const awake: BlockNode[] = [];
  try {
    for (const one of sleeping) one.active = true;
    // Whoever has the images open for writing has the locks.
    refreshPermissions([node]);
    for (const one of sleeping) {
      await readAnew(one);
      awake.push(one);
    }
  } catch (error) {
    for (const one of awake.toReversed()) {
      await undo(one, log, () => one.driver.inactivate?.(one));
    }
    for (const one of sleeping) one.active = false;
    await undo(node, log, () => refreshPermissions([node]));
    throw error;
  } finally {
    end();
  }
}

async function inactivateFrom(
  roots: readonly BlockNode[],
  failing: string,
  log: Logger,
): Promise<void> {
  const ends: (() => void)[] = [];
  try {
    for (const root of roots) ends.push(await drainSubtree(root));
    const falling = fallingFrom(roots);
    for (const node of falling) checkUsers(node);
    for (const node of falling) await flush(node);
    await letGo(falling, log);
  } catch (error) {
    if (error instanceof IoError) {
      throw new QmpError(`${failing}: ${error.reason}`, { cause: error });
    }
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(`${failing}: ${error.desc}`, { cause: error });
  } finally {
    for (const end of ends) end();
  }
}

async function letGo(falling: readonly BlockNode[], log: Logger): Promise<void> {
  const written: BlockNode[] = [];
  try {
    for (const node of falling) {
      await node.driver.inactivate?.(node);
      written.push(node);
    }
    for (const node of falling) node.active = false;
    refreshPermissions(falling);
  } catch (error) {
    for (const node of falling) node.active = true;
    for (const node of written.toReversed()) await undo(node, log, () => readAnew(node));
    throw error;
  }
}

/** The active nodes among `roots` and below that have no active users left, each before its children. */
function fallingFrom(roots: readonly BlockNode[]): readonly BlockNode[] {
  const falling = new Set<BlockNode>();
  const visit = (node: BlockNode): void => {
    const { parents, active } = node;
    const isUsed = parents.some(({ parent: { parentNode: user } }) => {
      return user !== undefined && user.active && !falling.has(user);
    });
    if (isUsed || !active || falling.has(node)) return;
    falling.add(node);
    for (const child of node.children) visit(child.node);
  };
  for (const root of roots) visit(root);
  return [...falling];
}

/** Every node below and including `node`, each after its children, once. */
function bottomUp(node: BlockNode, seen: Set<BlockNode> = new Set()): Set<BlockNode> {
  for (const child of node.children) bottomUp(child.node, seen);
  return seen.add(node);
}

function hasActiveParent(node: BlockNode): boolean {
  return node.parents.some(({ parent }) => parent.parentNode?.active === true);
}

/** An export or a job that does more than read cannot go on. */
function checkUsers(node: BlockNode): void {
  for (const { perm, parent } of node.parents) {
    const isOwner = parent.parentNode === undefined;
    if (isOwner && (perm & ~PERM_CONSISTENT_READ) !== 0) {
      throw new IoError(errno.EPERM, { syscall: 'inactivate' });
    }
  }
}

/** Its children are as they will be. Throws QmpError. */
async function readAnew(node: BlockNode): Promise<void> {
  let doing = `Could not read the image of node '${node.nodeName}' again`;
  try {
    await node.driver.activate?.(node);
    doing = 'Could not refresh total sector count';
    const { length } = node;
    node.refreshLength();
    if (node.length !== length) node.lengthChanged();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${doing}: ${error.reason}`, { cause: error });
  }
  refreshLimits(node);
}

/** What went before has failed: that this did, too, can only be told. */
async function undo(node: BlockNode, log: Logger, work: () => MaybePromise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    log.error(`Failed to leave node '${node.nodeName}' as it was: ${String(error)}`);
  }
}
