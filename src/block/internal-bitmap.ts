// Bitmaps of clusters that drivers and jobs keep for themselves: nameless, but told of in query-named-block-nodes.

import type { Bitmap } from '../base/bitmap.ts';
import type { BlockNode } from './block-node.ts';

/** Lets the node tell of a bitmap with so many bytes a bit, until the answer is called. */
export function tellOfBitmap(node: BlockNode, bitmap: Bitmap, granularity: number): () => void {
  const told = {
    info: () => ({
      count: bitmap.count * granularity,
      granularity,
      recording: false,
      busy: false,
      persistent: false,
    }),
  };
  node.internalBitmaps.unshift(told);
  return () => {
    const index = node.internalBitmaps.indexOf(told);
    if (index !== -1) node.internalBitmaps.splice(index, 1);
  };
}
