// What the commands for dirty bitmaps do, as parts of a transaction: done at once, and undone if it comes to nothing.

import type {
  BlockDirtyBitmap,
  BlockDirtyBitmapAdd,
  BlockDirtyBitmapMerge,
} from '../qapi/generated/types.ts';
import {
  addDirtyBitmap,
  clearDirtyBitmap,
  enableDirtyBitmap,
  lookUpDirtyBitmap,
  mergeDirtyBitmaps,
  type Nodes,
  removeDirtyBitmap,
  takeDirtyBitmap,
} from './dirty-bitmap-commands.ts';
import type { TransactionAction } from './transaction.ts';

export function addBitmapAction(graph: Nodes, args: BlockDirtyBitmapAdd): TransactionAction {
  let added = false;
  return {
    prepare() {
      addDirtyBitmap(graph, args);
      added = true;
    },
    async abort() {
      // It is not in the image yet.
      if (added) await removeDirtyBitmap(graph, args);
    },
  };
}

export function removeBitmapAction(graph: Nodes, which: BlockDirtyBitmap): TransactionAction {
  let taken: { remove(): void; keep(): void } | undefined;
  return {
    async prepare() {
      taken = await takeDirtyBitmap(graph, which);
    },
    commit() {
      taken?.remove();
    },
    abort() {
      taken?.keep();
    },
  };
}

export function clearBitmapAction(graph: Nodes, which: BlockDirtyBitmap): TransactionAction {
  return changeBitmapAction(graph, which, () => clearDirtyBitmap(graph, which));
}

export function mergeBitmapsAction(graph: Nodes, args: BlockDirtyBitmapMerge): TransactionAction {
  return changeBitmapAction(graph, { node: args.node, name: args.target }, () =>
    mergeDirtyBitmaps(graph, args),
  );
}

export function enableBitmapAction(
  graph: Nodes,
  which: BlockDirtyBitmap,
  { enabled }: { readonly enabled: boolean },
): TransactionAction {
  let undo: (() => void) | undefined;
  return {
    prepare() {
      const bitmap = lookUpDirtyBitmap(graph, which);
      const before = bitmap.enabled;
      enableDirtyBitmap(graph, which, { enabled });
      undo = () => {
        bitmap.enabled = before;
      };
    },
    abort() {
      undo?.();
    },
  };
}

/** The bitmap is as it was when it comes to nothing. */
function changeBitmapAction(
  graph: Nodes,
  which: BlockDirtyBitmap,
  change: () => void,
): TransactionAction {
  let restore: (() => void) | undefined;
  return {
    prepare() {
      const remembered = lookUpDirtyBitmap(graph, which).remember();
      change();
      restore = remembered;
    },
    abort() {
      restore?.();
    },
  };
}
