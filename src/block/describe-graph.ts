// x-debug-query-block-graph: who uses whom, with the permissions in force, for people who debug.

import type {
  BlockPermission,
  XDbgBlockGraph,
  XDbgBlockGraphEdge,
  XDbgBlockGraphNode,
} from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import type { Permissions } from './block-driver.ts';
import {
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

const permissionOrder = [
  [PERM_RESIZE, 'resize'],
  [PERM_WRITE_UNCHANGED, 'write-unchanged'],
  [PERM_WRITE, 'write'],
  [PERM_CONSISTENT_READ, 'consistent-read'],
] as const satisfies readonly (readonly [Permissions, BlockPermission])[];

/**
 * Owners' edges by their names, and nodes, the oldest first; the answer has the youngest first. Numbers are given in the
 * order in which somebody is first mentioned.
 */
export function describeGraph(
  owners: ReadonlyMap<BlockChild, string>,
  nodes: Iterable<BlockNode>,
): XDbgBlockGraph {
  const numbers = new Map<object, number>();
  const numberOf = (one: object): number => {
    const number = numbers.get(one) ?? numbers.size + 1;
    numbers.set(one, number);
    return number;
  };
  const described: XDbgBlockGraphNode[] = [];
  const edges: XDbgBlockGraphEdge[] = [];
  const addEdge = (parent: object, edge: BlockChild) => {
    edges.unshift({
      parent: numberOf(parent),
      child: numberOf(edge.node),
      name: edge.name,
      perm: namesOf(edge.perm),
      'shared-perm': namesOf(edge.sharedPerm),
    });
  };
  for (const [edge, name] of owners) {
    described.unshift({ id: numberOf(edge), type: 'block-backend', name });
    addEdge(edge, edge);
  }
  for (const node of nodes) {
    described.unshift({ id: numberOf(node), type: 'block-driver', name: node.nodeName });
    for (const edge of node.children.toReversed()) addEdge(node, edge);
  }
  return { nodes: described, edges };
}

function namesOf(perm: Permissions): BlockPermission[] {
  return permissionOrder.filter(([bit]) => (perm & bit) !== 0).map(([, name]) => name);
}
