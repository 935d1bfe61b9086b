// Permission changes of an image file: the descriptor they need, and the locks other programs see.

import {
  PERM_ALL,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
  type Permissions,
} from '../../block-driver.ts';
import type { BlockNode } from '../../block-node.ts';
import { type ImageFile, openFlagsFor } from './image-file.ts';
import { addLocks, checkLocks, dropLocks, noLocks } from './image-lock.ts';

const WRITERS = PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE;

/** Gets what (perm, shared) needs, in addition to what is held. Throws QmpError; nothing has changed then. */
export function checkPermissions(
  node: BlockNode<ImageFile>,
  perm: Permissions,
  shared: Permissions,
): void {
  // What is inactive must not keep others away.
  if (!node.active) return;
  const image = node.state;
  const openFlags = openFlagsFor({
    write: node.autoReadOnly ? (perm & WRITERS) !== 0 : !node.readOnly,
    direct: node.cacheDirect,
  });
  if (openFlags !== image.openFlags) image.prepareSuccessor(openFlags);
  try {
    if (image.locking) acquire(image, perm, shared);
  } catch (error) {
    abortPermissions(image);
    throw error;
  }
}

/** The change is final. */
export function setPermissions(image: ImageFile, perm: Permissions, shared: Permissions): void {
  if (image.successor !== undefined) {
    // The successor has its locks already; they are the ones that count from now on.
    image.adoptSuccessor();
    image.locks.perm = image.locking ? perm : 0;
    image.locks.unshared = image.locking ? PERM_ALL & ~shared : 0;
  } else if (image.locking) {
    dropLocks(image.fd, image.locks, perm, PERM_ALL & ~shared);
  }
  image.perm = perm;
  image.shared = shared;
}

/** The change does not happen: back to what was held. */
export function abortPermissions(image: ImageFile): void {
  image.dropSuccessor();
  if (image.locking) dropLocks(image.fd, image.locks, image.perm, PERM_ALL & ~image.shared);
}

function acquire(image: ImageFile, perm: Permissions, shared: Permissions): void {
  const grows = (perm & ~image.perm) !== 0 || (image.shared & ~shared) !== 0;
  if (grows) {
    addLocks(image.fd, image.locks, image.perm | perm, PERM_ALL & ~(image.shared & shared));
    checkLocks(image.fd, perm, shared, image.path);
  }
  // The old descriptor keeps its locks until the change is final, so that nobody slips in between.
  if (image.successor !== undefined) {
    addLocks(image.successor.fd, noLocks(), perm, PERM_ALL & ~shared);
  }
}
