// The filter `copy-on-read`: what is read from the backing files of the node below is written to that node, so that it is not
// read from there again.

import type { MaybePromise } from '../../base/io-buffer.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsCor } from '../../qapi/generated/types.ts';
import {
  type BlockDriver,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
} from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { chainOf } from '../block-status.ts';
import { copyOnRead } from '../copy-on-read.ts';
import type { OpenContext } from '../driver-context.ts';
import { filteredChild, openFiltered, passFlags, passThrough } from '../filter.ts';

export interface CopyOnReadState {
  /** The last node that is copied from. */
  readonly bottom: BlockNode | undefined;
}

const PASSED = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE;

export const copyOnReadFilter: BlockDriver<CopyOnReadState, BlockdevOptionsCor> = {
  name: 'copy-on-read',
  kind: 'filter',
  variableLength: true,
  strongOptions: [],

  async open(node, options, context) {
    await openFiltered(options, context);
    passFlags(node);
    return { bottom: bottomFrom(options, node, context) };
  },

  length: passThrough.length,
  read(node, offset, length, into, at, flags) {
    const file = filteredChild(node);
    const copied = copy(node, offset, length);
    if (copied === undefined) return file.read(offset, length, into, at, flags);
    return copied.then(() => file.read(offset, length, into, at, flags));
  },
  prefetch: copy,
  write: passThrough.write,
  writeCompressed: passThrough.writeCompressed,
  writeZeroes: passThrough.writeZeroes,
  discard: passThrough.discard,

  childPermissions(_node, _role, { perm, shared }) {
    return {
      perm: (perm & PASSED) | PERM_WRITE_UNCHANGED,
      shared: (shared & PASSED) | PERM_WRITE_UNCHANGED,
    };
  },
};

function copy(
  node: BlockNode<CopyOnReadState>,
  offset: number,
  length: number,
): MaybePromise<void> {
  const { bottom } = node.state;
  return copyOnRead(filteredChild(node).node, { offset, length, bottom });
}

/** Throws QmpError. */
function bottomFrom(
  { bottom: name }: BlockdevOptionsCor,
  node: BlockNode,
  context: OpenContext,
): BlockNode | undefined {
  if (name === undefined) return undefined;
  const bottom = context.lookUp(name);
  if (bottom === undefined) throw new QmpError(`Bottom node '${name}' not found`);
  if (bottom.driver.kind === 'filter') throw new QmpError(`Bottom node '${name}' is a filter`);
  // The reference aborts.
  if (![...chainOf(node)].includes(bottom)) {
    throw new QmpError(`Bottom node '${name}' is not below '${node.nodeName}'`);
  }
  return bottom;
}
