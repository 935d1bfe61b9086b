// The raw format: bytes as they are in the file, or a window of it given by `offset` and `size`.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsRaw } from '../../qapi/generated/types.ts';
import type { BlockChild } from '../block-child.ts';
import {
  BLOCK_OFFSET_VALID,
  BLOCK_RAW,
  type BlockDriver,
  CHILD_DATA,
  CHILD_FILTER,
  CHILD_PRIMARY,
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  OTHERS_WAIT,
  PERM_RESIZE,
  PERM_WRITE,
  WRITE_UNCHANGED,
  ZERO_WRITE,
} from '../block-driver.ts';
import { type BlockNode, SECTOR } from '../block-node.ts';
import { imageState } from '../image-state.ts';
import { defaultChildPermissions } from '../permissions.ts';
import { resizeError } from '../resize-error.ts';
import { checkSize } from '../size-option.ts';

export interface RawState {
  readonly file: BlockChild;
  readonly offset: number;
  /** Given as an option: requests beyond it are refused, and it does not follow the file. */
  readonly hasSize: boolean;
  size: number;
}

type RawNode = BlockNode<RawState>;

export const raw: BlockDriver<RawState, BlockdevOptionsRaw> = {
  name: 'raw',
  kind: 'format',
  variableLength: true,
  strongOptions: ['offset', 'size'],

  async open(node, options, context) {
    const windowed = options.size !== undefined || (options.offset ?? 0) !== 0;
    // A window is not the whole of its file, so the node is no filter then.
    const role = windowed ? CHILD_DATA | CHILD_PRIMARY : CHILD_FILTER;
    const file = await context.openChild('file', options.file, role);
    takeFlags(node, file.node);
    return { file, ...windowFrom(options, file.node) };
  },
  mutableOptions: ['offset', 'size'],
  reopen(node, options) {
    // As in the reference, the window has to fit into the file that is about to go.
    const window = windowFrom(options, node.state.file.node);
    return {
      commit() {
        node.state = { ...node.state, ...window };
        takeFlags(node, node.state.file.node);
      },
    };
  },

  length(node) {
    const { state } = node;
    const left = Math.max(0, state.file.node.length - state.offset);
    state.size = state.hasSize ? Math.min(state.size, left) : left;
    return state.size;
  },

  read(node, offset, length, into, at, flags) {
    if (isOutside(node, offset, length))
      throw new IoError(errno.EINVAL, { syscall: 'read', offset });
    const { state } = node;
    state.file.debugEvent('read_aio');
    return state.file.read(offset + state.offset, length, into, at, flags);
  },
  startRead(node, offset, length, into, at, completion, pipes) {
    if (isOutside(node, offset, length))
      throw new IoError(errno.EINVAL, { syscall: 'read', offset });
    const { state } = node;
    state.file.debugEvent('read_aio');
    return state.file.startRead(offset + state.offset, length, into, at, completion, pipes);
  },
  cachedRange(node, offset, length) {
    if (isOutside(node, offset, length)) return undefined;
    const { state } = node;
    return state.file.cachedRange(offset + state.offset, length);
  },
  prefetch(node, offset, length) {
    if (isOutside(node, offset, length)) return undefined;
    return node.state.file.prefetch(offset + node.state.offset, length);
  },
  write(node, offset, length, from, at, flags) {
    refuseOutside(node, offset, length);
    const { state } = node;
    state.file.debugEvent('write_aio');
    return state.file.write(offset + state.offset, length, from, at, flags);
  },
  startWrite(node, offset, length, from, at, flags, completion, pipe) {
    refuseOutside(node, offset, length);
    const { state } = node;
    state.file.debugEvent('write_aio');
    return state.file.startWrite(offset + state.offset, length, from, at, flags, completion, pipe);
  },
  writesFromPipe: ({ state }) => state.file.writesFromPipe,
  writeZeroes(node, offset, length, flags) {
    refuseOutside(node, offset, length);
    const { state } = node;
    return state.file.writeZeroes(offset + state.offset, length, flags);
  },
  discard(node, offset, length) {
    refuseOutside(node, offset, length);
    const { state } = node;
    return state.file.discard(offset + state.offset, length);
  },
  blockStatus(node, offset, length) {
    const { state } = node;
    return {
      status: BLOCK_RAW | BLOCK_OFFSET_VALID,
      length,
      hostOffset: offset + state.offset,
      file: state.file.node,
    };
  },
  truncate(node, length, options) {
    const { state } = node;
    if (state.hasSize) throw resizeError('Cannot resize fixed-size raw disks', errno.ENOTSUP);
    if (length > Number.MAX_SAFE_INTEGER - state.offset) {
      throw resizeError('Disk size too large for the chosen offset', errno.EINVAL);
    }
    state.size = length;
    return state.file.truncate(length + state.offset, options);
  },

  imageInfo(node) {
    return imageState(node.state.file.node);
  },

  /** As for any format, but writing and resizing only when somebody above does. */
  childPermissions(node, role, parent) {
    const { perm, shared } = defaultChildPermissions(node, role, parent);
    const writes = PERM_WRITE | PERM_RESIZE;
    return { perm: (perm & ~writes) | (parent.perm & writes), shared };
  },
};

/** What the file below understands passes through. */
function takeFlags(node: RawNode, below: BlockNode): void {
  node.supportedWriteFlags = WRITE_UNCHANGED | ((FUA | OTHERS_WAIT) & below.supportedWriteFlags);
  node.supportedZeroFlags =
    WRITE_UNCHANGED | ((FUA | MAY_UNMAP | NO_FALLBACK) & below.supportedZeroFlags);
  node.supportedTruncateFlags = ZERO_WRITE & below.supportedTruncateFlags;
}

/** Throws QmpError when the window does not fit into the file. */
function windowFrom(
  options: BlockdevOptionsRaw,
  below: BlockNode,
): { offset: number; hasSize: boolean; size: number } {
  const { offset = 0, size } = options;
  checkSize('offset', offset);
  checkSize('size', size ?? 0);
  const realSize = lengthOf(below);
  if (offset > realSize) {
    throw new QmpError(
      `Offset (${offset}) cannot be greater than size of the containing file (${realSize})`,
    );
  }
  const left = realSize - offset;
  if (size === undefined) return { offset, hasSize: false, size: left };
  if (size > left) {
    throw new QmpError(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the ` +
        ` actual size of the containing file (${realSize})`,
    );
  }
  // Lengths of nodes are rounded up, which would let requests out of the window.
  if (size % SECTOR !== 0) {
    throw new QmpError(`Specified size is not multiple of ${SECTOR}`);
  }
  return { offset, hasSize: true, size };
}

function lengthOf(node: BlockNode): number {
  try {
    return node.length;
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not get image size: ${error.reason}`, { cause: error });
  }
}

function isOutside(node: RawNode, offset: number, length: number): boolean {
  const { state } = node;
  return state.hasSize && (offset > state.size || length > state.size - offset);
}

/** Nothing may be written outside the window. */
function refuseOutside(node: RawNode, offset: number, length: number): void {
  if (isOutside(node, offset, length))
    throw new IoError(errno.ENOSPC, { syscall: 'write', offset });
}
