// What a block driver is: a readonly table of functions over a node. Contracts are asserted in io.ts, so a driver may rely
// on them: offset and length are safe integers, aligned to its request alignment, length > 0, and within the node (rounded
// up to the alignment; a write may go beyond if its user may resize).

import type { DataPipe, PipeSource } from '../base/data-pipe.ts';
import type { IoBuffer, MaybePromise } from '../base/io-buffer.ts';
import type {
  BlkdebugEvent,
  BlockdevDriver,
  BlockStatsSpecific,
  ImageInfo,
  PreallocMode,
} from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import type { BlockNode } from './block-node.ts';
import type { Completion, Started } from './completion.ts';
import type { CreateContext, OpenContext } from './driver-context.ts';
import type { InternalSnapshots } from './internal-snapshot.ts';

/** Request flags; the names are the reference's (BDRV_REQ_*). */
export const FUA = 1;
export const MAY_UNMAP = 2;
export const NO_FALLBACK = 4;
/** The data do not change what a guest sees (copy-on-read): needs PERM_WRITE_UNCHANGED only. */
export const WRITE_UNCHANGED = 8;
/** The data go to the image compressed: whole clusters that have none yet. The driver's writeCompressed takes it. */
export const WRITE_COMPRESSED = 64;
/**
 * Whoever asks has more to do meanwhile: a long copy had better be done beside the main thread than on it. Ours, and a hint: a
 * driver that does not support it is not told.
 */
export const OTHERS_WAIT = 128;
/** On truncate: a grown area must read as zeroes. */
export const ZERO_WRITE = 32;
export type RequestFlags = number;

/** Block status bits; the names are the reference's (BDRV_BLOCK_*). */
export const BLOCK_DATA = 1;
export const BLOCK_ZERO = 2;
export const BLOCK_ALLOCATED = 4;
export const BLOCK_OFFSET_VALID = 8;
export const BLOCK_RECURSE = 16;
export const BLOCK_EOF = 32;
/** The driver says: ask the child at `hostOffset` instead (raw and filters). */
export const BLOCK_RAW = 64;
export type BlockStatusFlags = number;

export interface BlockStatus {
  readonly status: BlockStatusFlags;
  /** Bytes from the asked offset that share the status; at least 1. */
  readonly length: number;
  /** Where the data lies in `file`, with BLOCK_OFFSET_VALID. */
  readonly hostOffset?: number;
  readonly file?: BlockNode;
}

/** A range of an open file. Good until the next wait only: after that the descriptor may be another file's. */
export interface FileRange {
  readonly fd: number;
  readonly offset: number;
}

/** Permissions on a node, held and shared by each of its users; the values are also lock bytes of image files. */
export const PERM_CONSISTENT_READ = 1;
export const PERM_WRITE = 2;
export const PERM_WRITE_UNCHANGED = 4;
export const PERM_RESIZE = 8;
export const PERM_ALL = 15;
export type Permissions = number;

export interface PermissionPair {
  /** What the user does. */
  readonly perm: Permissions;
  /** What it lets others do. */
  readonly shared: Permissions;
}

/** What a child is to its parent; bits, combined. The names are the reference's (BDRV_CHILD_*). */
export const CHILD_DATA = 1;
export const CHILD_METADATA = 2;
export const CHILD_FILTERED = 4;
export const CHILD_COW = 8;
export const CHILD_PRIMARY = 16;
/** The one child that holds a format's data and metadata. */
export const CHILD_IMAGE = CHILD_DATA | CHILD_METADATA | CHILD_PRIMARY;
/** The child a filter passes everything through to. */
export const CHILD_FILTER = CHILD_FILTERED | CHILD_PRIMARY;
export type ChildRole = number;

/** Limits a driver declares when it opens; io.ts enforces them. All in bytes. */
export interface BlockLimits {
  /** Power of two; reads and writes are widened to it. 1 when any byte may be addressed. */
  requestAlignment: number;
  /** What writeZeroes and discard work in; 0 when unknown. */
  zeroAlignment: number;
  discardAlignment: number;
  /** Largest single request; 0 for no limit. */
  maxTransfer: number;
  maxWriteZeroes: number;
  maxDiscard: number;
  /** Preferred request size; 0 when there is none. */
  optTransfer: number;
  /** Alignment of memory, for direct I/O. */
  memoryAlignment: number;
}

export interface TruncateOptions {
  /** The result must have this size exactly, even where a larger one would do (host devices). */
  readonly exact: boolean;
  readonly prealloc: PreallocMode;
  /** ZERO_WRITE or 0. */
  readonly flags: RequestFlags;
}

/** A reopening that a driver has prepared. Exactly one of `commit` and `abort` is called. */
export interface ReopenStep {
  /** It happens; settings, permissions and children are the new ones. Must not fail. */
  commit(): void;
  /** All nodes of the list have it behind them. Must not fail. */
  afterCommit?(): MaybePromise<void>;
  /** Must not fail. */
  abort?(): MaybePromise<void>;
}

/** What a format tells of an image in query-named-block-nodes, besides its state. */
export type ImageDescription = Pick<
  ImageInfo,
  'backing-filename' | 'full-backing-filename' | 'backing-filename-format' | 'format-specific'
>;

/** What a node had at a moment in the past. All throw or reject IoError. */
export interface SnapshotOfNode<State = unknown> {
  read(
    node: BlockNode<State>,
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
  ): MaybePromise<void>;
  blockStatus(
    node: BlockNode<State>,
    offset: number,
    length: number,
    wantZero: boolean,
  ): MaybePromise<BlockStatus>;
  /** Nobody will read the area any more. */
  discard(node: BlockNode<State>, offset: number, length: number): MaybePromise<void>;
}

/** What a driver says to children that come and go. */
export interface ChildChanges<State = unknown> {
  /** What one more child is called. Throws QmpError when there must be none. */
  nextName(node: BlockNode<State>): string;
  /** The node is drained, its children are the new ones. Must not fail. */
  added(node: BlockNode<State>, child: BlockChild): void;
  /** Throws QmpError unless one child may go. */
  checkRemovable(node: BlockNode<State>): void;
  /** As `added`, of one that is a child no more. */
  removed(node: BlockNode<State>, child: BlockChild): void;
}

export interface ImageState {
  readonly clusterSize: number;
  readonly isDirty: boolean;
}

/** An image that is made over another. */
export interface OverlayImage {
  /** Bytes. */
  readonly size: number;
  readonly backingFile: string;
  readonly backingFormat: string;
}

/**
 * A driver. `State` is what open answers; the graph keeps it in `node.state`. `Options` is the driver's branch of
 * BlockdevOptions. Request functions throw or reject IoError; open may throw IoError (said as `Could not open 'FILE':
 * reason`) or a QmpError with its own text. `CreateOptions` and `AmendOptions` are its branches of BlockdevCreateOptions and
 * BlockdevAmendOptions.
 */
export interface BlockDriver<
  State = unknown,
  Options = never,
  CreateOptions = never,
  AmendOptions = never,
> {
  /** A QAPI driver's, or what a node of the program around the daemon is told to be. */
  readonly name: BlockdevDriver | 'x-library-disk';
  readonly kind: 'format' | 'protocol' | 'filter';
  /** A filter that the reference counts among the protocols: its messages say so, and it tells no `actual-size`. */
  readonly isProtocol?: true;
  /** The option that lists its children, where each of them has no name of its own, and they in that order. */
  readonly childList?: {
    readonly name: string;
    of(node: BlockNode<State>): readonly BlockChild[];
  };
  /** Its `flush` flushes the children, too, and is always called. */
  readonly flushesChildren?: true;
  /** `length` may change at any time (raw follows its file): ask it for each request. */
  readonly variableLength?: boolean;
  /** Options that decide which data the node shows; they appear in a `json:` filename. */
  readonly strongOptions: readonly string[];
  /** Options that may be an object without members: the reference knows them by their own name, too. */
  readonly takesEmpty?: readonly string[];
  /** A filename option is a must (texts and `Could not open 'FILE'` come from it). */
  readonly needsFilename?: boolean;
  /** May have a `backing` child; what it has not allocated reads from there. */
  readonly supportsBacking?: boolean;
  /** Why no directory can be told in which its images are; names in images are relative to that. */
  readonly noDirectory?: string;
  /**
   * A filename that alone opens the same node; undefined when it takes `json:`. Without it: the `filename` option of a
   * protocol, and for a format without strong options its file's exact filename.
   */
  exactFilename?(node: BlockNode<State>): string | undefined;

  /**
   * Opens. May lower `node.readOnly` through `node.applyAutoReadOnly`, and sets `node.supportedWriteFlags`,
   * `supportedZeroFlags` (default 0) and `supportedTruncateFlags` to what its functions understand.
   */
  open(node: BlockNode<State>, options: Options, context: OpenContext): MaybePromise<State>;
  /** Releases all but the children. Never called with requests in flight; flushed before. */
  close?(node: BlockNode<State>): MaybePromise<void>;

  /**
   * Makes an image, for blockdev-create; without it the driver's images cannot be made. What fails before the answer is
   * known before the command is answered. Throws or rejects QmpError, or IoError for its text alone.
   */
  create?(options: CreateOptions, context: CreateContext): MaybePromise<void>;

  /** The options of an image that is made over another, as QEMU's tools print them. Whoever has it can make such images. */
  describeOverlay?(image: OverlayImage): string;

  /** Changes what kind of image a node has open, for x-blockdev-amend. Throws or rejects QmpError or IoError. */
  amend?(node: BlockNode<State>, options: AmendOptions): MaybePromise<void>;

  /**
   * Prepares new options of an open node, for blockdev-reopen; without it the node cannot be reopened. Settings of the node
   * (`readOnly` and so on) are still the old ones, requests are held back. Throws or rejects QmpError to refuse.
   */
  reopen?(node: BlockNode<State>, options: Options): MaybePromise<ReopenStep>;
  /** Options that reopening may change or leave out: all that `reopen` heeds, as flat names (`overlap-check.template`). */
  readonly mutableOptions?: readonly string[];
  /** Options that `reopen` heeds and that reopening may change, but not leave out. */
  readonly changeableOptions?: readonly string[];

  /**
   * The node is about to become inactive: what is only in memory goes to the image, and what is said there of its being in use
   * goes. No request is in flight. Throws or rejects IoError or QmpError: all is as before then.
   */
  inactivate?(node: BlockNode<State>): MaybePromise<void>;
  /**
   * The node was inactive: whatever is known of the image may have been changed by others. The children are active; the node may
   * be written to. Throws or rejects IoError or QmpError: it stays inactive then.
   */
  activate?(node: BlockNode<State>): MaybePromise<void>;

  /** Throws QmpError unless a new dirty bitmap can be kept in the image; without it none can. */
  checkCanStoreBitmap?(node: BlockNode<State>, name: string, granularity: number): void;
  /** Removes a persistent dirty bitmap from the image, if it is there yet. Throws or rejects QmpError. */
  removeStoredBitmap?(node: BlockNode<State>, name: string): MaybePromise<void>;

  /** Length in bytes; the graph rounds it up to 512. Throws IoError. */
  length(node: BlockNode<State>): number;
  /**
   * A drained section begins (not nested): requests that the driver holds back have to finish now. Also called for a node
   * that becomes open within one. Must not fail.
   */
  drainBegin?(node: BlockNode<State>): void;
  drainEnd?(node: BlockNode<State>): void;
  /** Called with defaults merged from the children; `requestAlignment` starts at 1. */
  refreshLimits?(node: BlockNode<State>, limits: BlockLimits): void;

  read(
    node: BlockNode<State>,
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    flags: RequestFlags,
  ): MaybePromise<void>;
  /**
   * As read without flags, for a driver whose answers come from elsewhere: many requests under way cost no promise each. Throws
   * IoError, or has `completion` told of one. Without it `read` is called, which there must be in any case.
   * If it takes a pipe from `pipes`, the data are in there in the end, or that is empty and they are in memory.
   */
  startRead?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    into: IoBuffer,
    at: number,
    completion: Completion,
    pipes?: PipeSource,
  ): Started;
  /**
   * Where the area lies, as plain data, in the page cache of a file: a reader may have the kernel send it from there. Undefined
   * when it does not, or nobody knows without waiting. Without it: always.
   */
  cachedRange?(node: BlockNode<State>, offset: number, length: number): FileRange | undefined;
  /** `flags` has only what `node.supportedWriteFlags` has. */
  write?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags,
  ): MaybePromise<void>;
  /**
   * To write what startRead is to read. With `pipe`, which only a driver is given that writesFromPipe, the data are in there, to
   * be taken out before the end of the request; their place in memory is free for whoever has to have them there.
   */
  startWrite?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
    flags: RequestFlags,
    completion: Completion,
    pipe?: DataPipe,
  ): Started;
  /** Whether the data of startWrite may be in a pipe. Without it they may not. */
  writesFromPipe?(node: BlockNode<State>): boolean;
  /** Reads for the effect alone: what reading copies is copied. Without it there is none. */
  prefetch?(node: BlockNode<State>, offset: number, length: number): MaybePromise<void>;
  /** As write, for WRITE_COMPRESSED; without it such writes fail with ENOTSUP. */
  writeCompressed?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    from: IoBuffer,
    at: number,
  ): MaybePromise<void>;
  /** ENOTSUP makes io.ts write zeroes itself, unless NO_FALLBACK. `flags`: those of `node.supportedZeroFlags`. */
  writeZeroes?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    flags: RequestFlags,
  ): MaybePromise<void>;
  /** Advice: ENOTSUP is ignored. The only request that may not be aligned to the request alignment. */
  discard?(node: BlockNode<State>, offset: number, length: number): MaybePromise<void>;
  /** Metadata caches of the driver down to its children, without waiting for disks; before `flush`. */
  flushToOs?(node: BlockNode<State>): MaybePromise<void>;
  /** Makes completed writes durable. Children are flushed by io.ts afterwards. */
  flush?(node: BlockNode<State>): MaybePromise<void>;
  /**
   * What lies at `offset`; `length` in the answer may be shorter or longer than asked (io.ts cuts it). `wantZero` false:
   * only BLOCK_ALLOCATED matters, answer fast. Without it everything is data.
   */
  blockStatus?(
    node: BlockNode<State>,
    offset: number,
    length: number,
    wantZero: boolean,
  ): MaybePromise<BlockStatus>;
  truncate?(node: BlockNode<State>, length: number, options: TruncateOptions): MaybePromise<void>;

  /** Without it the children stay as they are. */
  readonly childChanges?: ChildChanges<State>;

  readonly internalSnapshots?: InternalSnapshots<State>;

  /** Permissions the node needs on a child, given what its own users have. Default: by kind, see permissions.ts. */
  childPermissions?(
    node: BlockNode<State>,
    role: ChildRole,
    parent: PermissionPair,
  ): PermissionPair;
  /**
   * The users' permissions together are about to become (perm, shared): acquire what that needs, keeping what is held.
   * Throws QmpError to refuse. Exactly one of setPermissions and abortPermissions follows a success.
   */
  checkPermissions?(node: BlockNode<State>, perm: Permissions, shared: Permissions): void;
  /** The change is final: release what is no longer needed. Must not fail. */
  setPermissions?(node: BlockNode<State>, perm: Permissions, shared: Permissions): void;
  abortPermissions?(node: BlockNode<State>): void;

  /** For a driver that keeps what its nodes had: for snapshot-access. */
  readonly snapshot?: SnapshotOfNode<State>;

  /** Something happens in the node above, or in the request path to it, that a test may wait for. Must not fail. */
  debugEvent?(node: BlockNode<State>, event: BlkdebugEvent): void;

  /** Bytes allocated, for `actual-size`; undefined when not known. Without it: the sum over the children that store data. */
  allocatedSize?(node: BlockNode<State>): number | undefined;
  /** `cluster-size` (0: none) and `dirty-flag` of query-named-block-nodes, absent for null-co; raw passes on its file's. */
  imageInfo?(node: BlockNode<State>): ImageState | undefined;
  /** What else a format tells of an image. */
  describeImage?(node: BlockNode<State>): ImageDescription;
  /** Writes another backing file's name to the image. Throws or rejects IoError. */
  changeBackingFile?(
    node: BlockNode<State>,
    name: { readonly file: string; readonly format: string },
  ): Promise<void>;
  /** True when the node's backing file is not the one that a user who names only the image gets. */
  backingOverridden?(node: BlockNode<State>): boolean;
  /** `driver-specific` of query-blockstats, for drivers that have any (null-co and raw have none). */
  specificStats?(node: BlockNode<State>): BlockStatsSpecific;
}
