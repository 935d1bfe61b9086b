// Internal snapshots as the block layer knows them, and what drivers do that have any.

import type { BlockNode } from './block-node.ts';

/** An internal snapshot, as it is told. Numbers of 64 bits come as they are in the image. */
export interface InternalSnapshot {
  readonly id: string;
  readonly name: string;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: bigint;
  /** Bytes. */
  readonly vmStateSize: bigint;
  /** Undefined: nobody counted. */
  readonly icount: bigint | undefined;
}

export type NewSnapshot = Omit<InternalSnapshot, 'id' | 'vmStateSize' | 'icount'>;

/** Which snapshot is meant: the first one of this id, if one is given, and of this name, if one is given. */
export interface SnapshotSelector {
  readonly id: string | undefined;
  readonly name: string | undefined;
}

/** What drivers can do whose images have internal snapshots. Throw IoError; ENOTSUP when this image cannot have any. */
export interface InternalSnapshots<State> {
  list(node: BlockNode<State>): readonly InternalSnapshot[];
  /** The node is drained. Answers the id. */
  create(node: BlockNode<State>, snapshot: NewSnapshot): Promise<string>;
  /** The node is drained. May throw QmpError, too. */
  delete(node: BlockNode<State>, selector: SnapshotSelector): Promise<void>;
}
