// Putting another node in the place of a node's `file` or `backing`, in a way that can be undone. Permissions are the
// caller's business.

import { QmpError } from '../qapi/errors.ts';
import { BlockChild } from './block-child.ts';
import { CHILD_COW, CHILD_FILTER } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { linkEdge, moveEdge, nodeAsParent, reaches, unlinkEdge } from './edges.ts';

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
  if (next !== undefined && reaches(next, node)) {
    throw new QmpError(
      `Making '${next.nodeName}' a ${name} child of '${node.nodeName}' would create a cycle`,
    );
  }
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
  if (edge === undefined) {
    const made = new BlockChild({
      name: 'backing',
      node: next as BlockNode,
      role: node.driver.kind === 'filter' ? CHILD_FILTER : CHILD_COW,
      parent: nodeAsParent(node),
      perm: 0,
      shared: 0,
    });
    linkEdge(made);
    return () => unlinkEdge(made);
  }
  if (next === undefined) {
    unlinkEdge(edge);
    return () => linkEdge(edge);
  }
  return moveEdge(edge, next);
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
