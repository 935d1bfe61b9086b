// Bitmaps of clusters that drivers and jobs keep for themselves: nameless, but told of in query-named-block-nodes.

import type { Bitmap } from '../base/bitmap.ts';
import type { BlockDirtyInfo } from '../qapi/generated/types.ts';
import type { BlockNode } from './block-node.ts';
import type { DirtyBitmap } from './dirty-bitmap.ts';

/** A bitmap of clusters as its node knows it. */
export interface InternalBitmap {
  info(): BlockDirtyInfo;
  /** Follows the node's length, in bytes. What is new is clear. */
  truncate(length: number): void;
  /** Bitmaps of the node that were there before. */
  readonly older: ReadonlySet<DirtyBitmap>;
}

/** Puts a bitmap with so many bytes a bit on a node, whose length it follows, until the answer is called. */
export function addInternalBitmap(
  node: BlockNode,
  bitmap: Bitmap,
  granularity: number,
): () => void {
  const internal: InternalBitmap = {
    older: new Set(node.dirtyBitmaps),
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

/** What is told of all bitmaps of a node, the newest first. */
export function bitmapInfos({ internalBitmaps, dirtyBitmaps }: BlockNode): BlockDirtyInfo[] {
  const infos: BlockDirtyInfo[] = [];
  const left = [...internalBitmaps];
  for (const bitmap of dirtyBitmaps) {
    while (left[0]?.older.has(bitmap) === true) infos.push(...left.splice(0, 1).map(infoOf));
    infos.push(bitmap.info());
  }
  return [...infos, ...left.map(infoOf)];
}

function infoOf(bitmap: InternalBitmap): BlockDirtyInfo {
  return bitmap.info();
}
