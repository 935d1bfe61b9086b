// Putting edges into the graph and taking them out, with the permissions that follow from it.

import type { ChildParent } from './block-child.ts';
import { BlockChild } from './block-child.ts';
import type { PermissionPair } from './block-driver.ts';
import { CHILD_COW, CHILD_FILTER, CHILD_PRIMARY } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { quiesce, unquiesce } from './drain.ts';
import { refreshPermissions } from './permissions.ts';

/** An owner's edge; in the reference's messages such a child is called `root`. Throws QmpError, nothing attached then. */
export function attachRoot(node: BlockNode, parent: ChildParent, pair: PermissionPair): BlockChild {
  const edge = new BlockChild({ name: 'root', node, role: CHILD_FILTER, parent, ...pair });
  attachEdge(edge);
  return edge;
}

/** Throws QmpError when the permissions conflict; nothing is attached then. */
export function attachEdge(edge: BlockChild): void {
  const { node } = edge;
  const { parentNode } = edge.parent;
  linkEdge(edge);
  try {
    refreshPermissions([parentNode ?? node]);
  } catch (error) {
    unlinkEdge(edge);
    throw error;
  }
}

/** Takes an edge out; what the node's other users hold and share then counts alone. */
export function detachEdge(edge: BlockChild): void {
  unlinkEdge(edge);
  try {
    refreshPermissions([edge.node]);
  } catch {
    // Giving something up cannot conflict; a driver that fails to loosen a lock keeps the stricter one.
  }
}

/** Puts an edge in its place, whatever permissions say. */
export function linkEdge(edge: BlockChild): void {
  const { parentNode } = edge.parent;
  use(edge);
  if (parentNode !== undefined) linkChild(parentNode, edge);
}

/**
 * Lets an edge lead to another node, whatever permissions say; the answer takes it back. It is its parent's youngest child
 * then, and when that was taken back, too.
 */
export function moveEdge(edge: BlockChild, next: BlockNode): () => void {
  const { node } = edge;
  const putBack = placeIn(node.parents, edge);
  lead(edge, next);
  return () => {
    lead(edge, node);
    putBack();
  };
}

/** True when `target` is `from` or below it. */
export function reaches(from: BlockNode, target: BlockNode): boolean {
  return from === target || from.children.some((child) => reaches(child.node, target));
}

/** A node as the using end of an edge. */
export function nodeAsParent(node: BlockNode): ChildParent {
  return {
    parentNode: node,
    describe: () => `node '${node.nodeName}'`,
    drainBegin: () => quiesce(node),
    drainEnd: () => unquiesce(node),
    resized: () => {
      // Only a node whose length follows its file's has changed with it.
      if (node.driver.variableLength === true) node.resized();
    },
  };
}

function linkChild(parent: BlockNode, edge: BlockChild): void {
  parent.children.push(edge);
  if ((edge.role & CHILD_COW) !== 0) parent.backing = edge;
  else if ((edge.role & CHILD_PRIMARY) !== 0) parent.file = edge;
}

/** Takes an edge out of its place, whatever permissions say. */
export function unlinkEdge(edge: BlockChild): void {
  const { parentNode } = edge.parent;
  leave(edge);
  if (parentNode === undefined) return;
  removeFrom(parentNode.children, edge);
  if (parentNode.file === edge) parentNode.file = undefined;
  if (parentNode.backing === edge) parentNode.backing = undefined;
}

function lead(edge: BlockChild, next: BlockNode): void {
  const { node } = edge;
  // A user of both stays drained as long as one of them is.
  edge.node = next;
  use(edge);
  edge.node = node;
  leave(edge);
  edge.node = next;
  const children = edge.parent.parentNode?.children ?? [];
  removeFrom(children, edge);
  children.push(edge);
}

function use(edge: BlockChild): void {
  const { node } = edge;
  // Newest first, the order in which messages look for a conflict.
  node.parents.unshift(edge);
  if (node.drained > 0) edge.parent.drainBegin();
}

function leave(edge: BlockChild): void {
  const { node } = edge;
  removeFrom(node.parents, edge);
  if (node.drained > 0) edge.parent.drainEnd();
}

/** The answer puts an edge back before those that it is before now; others may have come and gone meanwhile. */
function placeIn(list: BlockChild[], edge: BlockChild): () => void {
  const behind = list.slice(list.indexOf(edge) + 1);
  return () => {
    removeFrom(list, edge);
    const place = list.findIndex((other) => behind.includes(other));
    list.splice(place === -1 ? list.length : place, 0, edge);
  };
}

function removeFrom(list: BlockChild[], edge: BlockChild): void {
  const index = list.indexOf(edge);
  if (index !== -1) list.splice(index, 1);
}
