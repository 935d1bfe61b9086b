// change-backing-file: another name of the backing file in an image. Which nodes are used does not change.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockNode } from './block-node.ts';
import { chainOf } from './block-status.ts';
import type { GraphAccess } from './graph-access.ts';
import { checkNotBlocked } from './op-blockers.ts';
import { findRoot } from './snapshot-internal.ts';

/** Throws QmpError. */
export async function changeBackingFile(
  graph: GraphAccess,
  args: { device: string; 'image-node-name': string; 'backing-file': string },
): Promise<void> {
  const { device, 'backing-file': file } = args;
  const root = findRoot(graph, device);
  const image = graph.find(undefined, args['image-node-name']);
  if (isLast(image)) {
    throw new QmpError('not allowing backing file change on an image without a backing file');
  }
  checkNotBlocked(root);
  if (![...chainOf(root)].includes(image)) {
    throw new QmpError(`'${device}' and image file are not in the same chain`);
  }
  if (!image.active) throw new QmpError(`Node '${image.nodeName}' is inactive`);
  const { readOnly } = image;
  if (readOnly) await graph.setReadOnly(image, false);
  try {
    await writeName(image, file);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not change backing file to '${file}': ${error.reason}`, {
      cause: error,
    });
  } finally {
    if (readOnly) await graph.setReadOnly(image, true);
  }
}

function isLast(node: BlockNode): boolean {
  return [...chainOf(node)].findLast((each) => each.driver.kind !== 'filter') === node;
}

async function writeName(node: BlockNode, file: string): Promise<void> {
  if (node.driver.changeBackingFile === undefined) {
    throw new IoError(errno.ENOTSUP, { syscall: 'change backing file' });
  }
  // The format is the image's own, as the reference writes it.
  await node.driver.changeBackingFile(node, { file, format: node.driver.name });
}
