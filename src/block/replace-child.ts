// Putting another node in the place of a node's `file` or `backing`, in a way that can be undone. Permissions are the
// caller's business.

import { QmpError } from '../qapi/errors.ts';
import { BlockChild } from './block-child.ts';
import { CHILD_COW, CHILD_FILTER } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { linkEdge, moveEdge, nodeAsParent, reaches, unlinkEdge } from './edges.ts';
import { refreshPermissions } from './permissions.ts';

export type ChildName = 'file' | 'backing';

export interface ReplacedChild {
  /** Whom it was put in the place of. */
  readonly old: BlockNode | undefined;
  readonly undo: () => void;
}

/** Undefined when `next` is the child already. `next` undefined: no child from now on. Throws QmpError. */
export function replaceChild(
  node: BlockNode,
  name: ChildName,
  next: BlockNode | undefined,
): ReplacedChild | undefined {
  if (next !== undefined) checkNoCycle(node, name, next);
  const edge = node[name];
  if (edge?.node === next) return undefined;
  checkMayHave(node, name, edge);
  const old = edge?.node;
  const inherited = next !== undefined && inheritsFrom(next, node);
  const undoInheritance = [old, next].map((each) => keepInheritance(each));
  const undoEdge = changeEdge(node, edge, next);
  if (old?.inheritsFrom === node) old.inheritsFrom = undefined;
  if (inherited && next !== undefined) next.inheritsFrom = node;
  return {
    old,
    undo() {
      undoEdge();
      for (const undo of undoInheritance) undo();
    },
  };
}

/**
 * Puts `overlay` between `base`, which becomes its backing file, and all who use `base`. Throws QmpError, everything as before;
 * the answer takes it back.
 */
export function insertOverlay(overlay: BlockNode, base: BlockNode): () => void {
  checkNoCycle(overlay, 'backing', base);
  const undo: (() => void)[] = [];
  const takeBack = (): void => {
    for (const step of undo.splice(0).toReversed()) step();
  };
  undo.push(addBacking(overlay, base));
  for (const edge of base.parents.slice()) {
    const user = edge.parent.parentNode;
    if (user !== undefined && reaches(overlay, user)) continue;
    undo.push(moveEdge(edge, overlay));
  }
  try {
    refreshPermissions([overlay]);
  } catch (error) {
    takeBack();
    throw error;
  }
  return () => {
    takeBack();
    refreshPermissions([base, overlay]);
  };
}

function checkNoCycle(node: BlockNode, name: ChildName, next: BlockNode): void {
  if (!reaches(next, node)) return;
  throw new QmpError(
    `Making '${next.nodeName}' a ${name} child of '${node.nodeName}' would create a cycle`,
  );
}

function checkMayHave(node: BlockNode, name: ChildName, edge: BlockChild | undefined): void {
  const { driver, nodeName } = node;
  if (driver.kind === 'filter') {
    if (edge !== undefined) return;
    throw new QmpError(
      `'${nodeName}' is a ${driver.name} filter node that does not support a ${name} child`,
    );
  }
  if (name === 'backing' && driver.supportsBacking !== true) {
    throw new QmpError(
      `Driver '${driver.name}' of node '${nodeName}' does not support backing files`,
    );
  }
  if (name === 'file' && edge === undefined) {
    throw new QmpError('Cannot set file child to format node without file child');
  }
}

function changeEdge(
  node: BlockNode,
  edge: BlockChild | undefined,
  next: BlockNode | undefined,
): () => void {
  if (edge === undefined) return addBacking(node, next as BlockNode);
  if (next === undefined) {
    unlinkEdge(edge);
    return () => linkEdge(edge);
  }
  return moveEdge(edge, next);
}

function addBacking(node: BlockNode, backing: BlockNode): () => void {
  const edge = new BlockChild({
    name: 'backing',
    node: backing,
    role: node.driver.kind === 'filter' ? CHILD_FILTER : CHILD_COW,
    parent: nodeAsParent(node),
    perm: 0,
    shared: 0,
  });
  linkEdge(edge);
  return () => unlinkEdge(edge);
}

/** True when `node`, or one that it was defined inside, was defined inside `ancestor`. */
function inheritsFrom(node: BlockNode, ancestor: BlockNode): boolean {
  for (let at: BlockNode | undefined = node; at !== undefined; at = at.inheritsFrom) {
    if (at === ancestor) return true;
  }
  return false;
}

function keepInheritance(node: BlockNode | undefined): () => void {
  const before = node?.inheritsFrom;
  return () => {
    if (node !== undefined) node.inheritsFrom = before;
  };
}
