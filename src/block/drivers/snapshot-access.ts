// The driver `snapshot-access`: shows, read-only, what the node of a copy-before-write filter had when the filter came.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { BlockdevOptionsGenericFormat } from '../../qapi/generated/types.ts';
import {
  type BlockDriver,
  CHILD_DATA,
  CHILD_PRIMARY,
  PERM_ALL,
  type SnapshotOfNode,
} from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { filenameOf } from '../filename.ts';
import { filteredChild } from '../filter.ts';

export const snapshotAccess: BlockDriver<undefined, BlockdevOptionsGenericFormat> = {
  name: 'snapshot-access',
  kind: 'format',
  strongOptions: [],
  exactFilename: (node) => filenameOf(filteredChild(node).node),

  async open(_node, options, context) {
    await context.openChild('file', options.file, CHILD_DATA | CHILD_PRIMARY);
    return undefined;
  },

  length: (node) => filteredChild(node).node.length,
  read(node, offset, length, into, at) {
    const { node: below } = filteredChild(node);
    return snapshotOf(below, offset).read(below, offset, length, into, at);
  },
  write(_node, offset) {
    throw notSupported(offset);
  },
  writeZeroes(_node, offset) {
    throw notSupported(offset);
  },
  discard(node, offset, length) {
    const { node: below } = filteredChild(node);
    return snapshotOf(below, offset).discard(below, offset, length);
  },
  blockStatus(node, offset, length, wantZero) {
    const { node: below } = filteredChild(node);
    return snapshotOf(below, offset).blockStatus(below, offset, length, wantZero);
  },

  /** What may be done with the node below is no business of those who look at its past. */
  childPermissions: () => ({ perm: 0, shared: PERM_ALL }),
};

/** Throws IoError ENOTSUP for a node that has no past. */
function snapshotOf(node: BlockNode, offset: number): SnapshotOfNode {
  const { snapshot } = node.driver;
  if (snapshot === undefined) throw notSupported(offset);
  return snapshot;
}

function notSupported(offset: number): IoError {
  return new IoError(errno.ENOTSUP, { syscall: 'snapshot', offset });
}
