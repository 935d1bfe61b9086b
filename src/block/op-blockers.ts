// What may not be done to a node because of how it is used, beside what permissions forbid.

import { QmpError } from '../qapi/errors.ts';
import { CHILD_COW } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** Throws QmpError with the reference's text: the content of a backing file stays as it is, whatever its overlay would allow. */
export function checkNotBlocked(node: BlockNode): void {
  const overlay = overlayOf(node);
  if (overlay === undefined) return;
  throw new QmpError(
    `Node '${node.nodeName}' is busy: node is used as backing hd of '${overlay.nodeName}'`,
  );
}

/** The node of which it is the backing file; the last one to be, if there are several. */
export function overlayOf(node: BlockNode): BlockNode | undefined {
  return node.parents.find(
    ({ role, parent }) => (role & CHILD_COW) !== 0 && parent.parentNode !== undefined,
  )?.parent.parentNode;
}
