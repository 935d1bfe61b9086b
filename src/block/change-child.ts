// x-blockdev-change: a node gets one more child, or loses one, while it is used.

import { QmpError } from '../qapi/errors.ts';
import { CHILD_DATA } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { drainBegin } from './drain.ts';
import { detachEdge } from './edges.ts';
import type { GraphAccess } from './graph-access.ts';

/** Exactly one of `child`, which goes, and `node`, which comes. Throws QmpError, everything as before. */
export async function changeChild(
  graph: GraphAccess,
  args: { readonly parent: string; readonly child?: string; readonly node?: string },
): Promise<void> {
  const parent = graph.find(args.parent, args.parent);
  const { child, node } = args;
  if (child !== undefined && node !== undefined) {
    throw new QmpError('The parameters child and node are in conflict');
  }
  if (child !== undefined) return removeChild(graph, parent, child);
  if (node !== undefined) return addChild(graph, parent, node);
  throw new QmpError('Either child or node must be specified');
}

async function addChild(graph: GraphAccess, parent: BlockNode, name: string): Promise<void> {
  const child = graph.lookUp(name);
  if (child === undefined) throw new QmpError(`Node '${name}' not found`);
  const { childChanges } = parent.driver;
  if (childChanges === undefined) {
    throw new QmpError(`The node ${parent.nodeName} does not support adding a child`);
  }
  if (child.parents.length > 0) throw new QmpError(`The node ${name} already has a parent`);
  const childName = childChanges.nextName(parent);
  const end = await drainBegin(parent);
  try {
    const edge = graph.attach(parent, child, childName, CHILD_DATA);
    childChanges.added(parent, edge);
  } finally {
    end();
  }
}

async function removeChild(graph: GraphAccess, parent: BlockNode, name: string): Promise<void> {
  const edge = parent.children.find((each) => each.name === name);
  if (edge === undefined) {
    throw new QmpError(`Node '${parent.nodeName}' does not have child '${name}'`);
  }
  const { childChanges } = parent.driver;
  if (childChanges === undefined) {
    throw new QmpError(`The node ${parent.nodeName} does not support removing a child`);
  }
  childChanges.checkRemovable(parent);
  const end = await drainBegin(parent);
  try {
    detachEdge(edge);
    if (edge.node.inheritsFrom === parent) edge.node.inheritsFrom = undefined;
    childChanges.removed(parent, edge);
  } finally {
    end();
  }
  await graph.closeUnused(edge.node);
}
