// What filters have in common: everything goes through to the one child they filter, as far as they do not say otherwise.

import type { BlockdevRef } from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import {
  type BlockDriver,
  CHILD_FILTER,
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  OTHERS_WAIT,
  WRITE_COMPRESSED,
  WRITE_UNCHANGED,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import type { OpenContext } from './driver-context.ts';

/** The child that a filter filters. */
export function filteredChild(node: BlockNode): BlockChild {
  const child = node.file ?? node.backing;
  if (child === undefined) throw new Error(`The filter '${node.nodeName}' has no child`);
  return child;
}

/** Opens the `file` of a filter. Throws QmpError. */
export function openFiltered(
  options: { readonly file: BlockdevRef },
  context: OpenContext,
): Promise<BlockChild> {
  return context.openChild('file', options.file, CHILD_FILTER);
}

/** The flags of most filters: those that change nothing about what a request does, where the child understands them. */
export function passFlags(node: BlockNode): void {
  const below = filteredChild(node).node;
  node.supportedWriteFlags = WRITE_UNCHANGED | ((FUA | OTHERS_WAIT) & below.supportedWriteFlags);
  node.supportedZeroFlags =
    WRITE_UNCHANGED | ((FUA | MAY_UNMAP | NO_FALLBACK) & below.supportedZeroFlags);
}

/** Functions of a filter that does not look at requests of their kind. */
export const passThrough = {
  length: (node) => filteredChild(node).node.length,
  read: (node, offset, length, into, at, flags) =>
    filteredChild(node).read(offset, length, into, at, flags),
  write: (node, offset, length, from, at, flags) =>
    filteredChild(node).write(offset, length, from, at, flags),
  writeCompressed: (node, offset, length, from, at) =>
    filteredChild(node).write(offset, length, from, at, WRITE_COMPRESSED),
  writeZeroes: (node, offset, length, flags) =>
    filteredChild(node).writeZeroes(offset, length, flags),
  discard: (node, offset, length) => filteredChild(node).discard(offset, length),
} satisfies Partial<BlockDriver>;
