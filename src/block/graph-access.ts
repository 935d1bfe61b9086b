// What a change to the graph may use while it is carried out: BlockGraph.change gives it.

import type { Logger } from '../base/log.ts';
import type { BlockdevCreateOptions, BlockdevOptions } from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import type { BlockDriver, ChildRole } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

export interface GraphAccess {
  readonly log: Logger;
  /** Lines for the person who started the daemon. */
  readonly print: (text: string) => void;
  /** As `BlockGraph.find`. */
  find(device: string | undefined, nodeName: string | undefined): BlockNode;
  /** The open node of that name. */
  lookUp(nodeName: string): BlockNode | undefined;
  /** The driver of that name, if there is one. */
  driver(name: string): BlockDriver | undefined;
  /** Opens a node, whose settings come from `like` where the options do not say. Throws QmpError. */
  open(options: BlockdevOptions, like: BlockNode): Promise<BlockNode>;
  /** Makes an image, as blockdev-create does. Throws QmpError, or IoError for its text alone. */
  make(options: BlockdevCreateOptions): Promise<void>;
  /** Puts a child under a node. Throws QmpError, everything as before. */
  attach(parent: BlockNode, child: BlockNode, name: string, role: ChildRole): BlockChild;
  /** Closes a node that nobody uses. */
  closeUnused(node: BlockNode): Promise<void>;
  /** Throws QmpError, everything as before. */
  setReadOnly(node: BlockNode, readOnly: boolean): Promise<void>;
  /** Throws QmpError, everything as before. */
  setActive(node: BlockNode, active: boolean): Promise<void>;
  /** Nobody uses any node until the answer is called; no request is in flight. */
  drainAll(): Promise<() => void>;
}
