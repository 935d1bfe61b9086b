// Bitmaps of clusters that drivers and jobs keep for themselves: nameless, but told of in query-named-block-nodes.

import type { Bitmap } from '../base/bitmap.ts';
import type { BlockDirtyInfo } from '../qapi/generated/types.ts';
import type { BlockNode } from './block-node.ts';

/** A bitmap of clusters as its node knows it. */
export interface InternalBitmap {
  info(): BlockDirtyInfo;
  /** Follows the node's length, in bytes. What is new is clear. */
  truncate(length: number): void;
}

/** Puts a bitmap with so many bytes a bit on a node, whose length it follows, until the answer is called. */
export function addInternalBitmap(
  node: BlockNode,
  bitmap: Bitmap,
  granularity: number,
): () => void {
  const internal: InternalBitmap = {
    info: () => ({
      count: bitmap.count * granularity,
      granularity,
      recording: false,
      busy: false,
      persistent: false,
    }),
    truncate: (length) => bitmap.resize(Math.ceil(length / granularity)),
  };
  node.internalBitmaps.unshift(internal);
  return () => {
    const index = node.internalBitmaps.indexOf(internal);
    if (index !== -1) node.internalBitmaps.splice(index, 1);
  };
}
