// What a format tells of its image, through the filters over it.

import type { ImageState } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

/** The state of the image that a node is or filters. */
export function imageState(node: BlockNode): ImageState | undefined {
  if (node.driver.imageInfo !== undefined) return node.driver.imageInfo(node);
  return node.filtered === undefined ? undefined : imageState(node.filtered.node);
}
