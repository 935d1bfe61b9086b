// A node's limits: those of the children that hold its data, as far as they pass through, then what its driver says.

import { QmpError } from '../qapi/errors.ts';
import type { BlockLimits } from './block-driver.ts';
import { CHILD_COW, CHILD_DATA, CHILD_FILTERED } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { defaultLimits } from './block-node.ts';
import { alignedDown } from './io-driver.ts';

/** Largest alignment the request path works with. */
const MAX_ALIGNMENT = 2 ** 30;

/** Works out the limits again. Throws QmpError. */
export function refreshLimits(node: BlockNode): void {
  const limits = defaultLimits();
  for (const child of node.children) {
    if ((child.role & (CHILD_DATA | CHILD_FILTERED | CHILD_COW)) !== 0) {
      merge(limits, child.node.limits);
    }
  }
  node.driver.refreshLimits?.(node, limits);
  if (limits.requestAlignment > MAX_ALIGNMENT) {
    throw new QmpError('Driver requires too large request alignment');
  }
  // A piece of a request that is split must stay aligned.
  if (limits.maxTransfer !== 0) {
    limits.maxTransfer = Math.max(
      alignedDown(limits.maxTransfer, limits.requestAlignment),
      limits.requestAlignment,
    );
  }
  node.limits = limits;
}

function merge(into: BlockLimits, from: BlockLimits): void {
  into.discardAlignment = Math.max(into.discardAlignment, from.discardAlignment);
  into.optTransfer = Math.max(into.optTransfer, from.optTransfer);
  into.memoryAlignment = Math.max(into.memoryAlignment, from.memoryAlignment);
  into.maxTransfer = smaller(into.maxTransfer, from.maxTransfer);
}

/** The smaller limit, where 0 is none. */
function smaller(one: number, other: number): number {
  return one === 0 || other === 0 ? Math.max(one, other) : Math.min(one, other);
}
