// What may not be done to a node because of how it is used, beside what permissions forbid.

import { QmpError } from '../qapi/errors.ts';
import { CHILD_COW } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** Throws QmpError with the reference's text: the content of a backing file stays as it is, whatever its overlay would allow. */
export function checkNotBlocked(node: BlockNode): void {
  for (const { role, parent } of node.parents) {
    if ((role & CHILD_COW) === 0 || parent.parentNode === undefined) continue;
    throw new QmpError(
      `Node '${node.nodeName}' is busy: node is used as backing hd of '${parent.parentNode.nodeName}'`,
    );
  }
}
