// nbd: a disk that a server has, as a node. The functions of the block layer made requests of the protocol; connections, and
// what happens when one is lost, are session.ts's.

import type { DataPipe, PipeSource } from '../../../base/data-pipe.ts';
import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../base/io-buffer.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from '../../../net/nbd/protocol.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevOptionsNbd } from '../../../qapi/generated/types.ts';
import {
  BLOCK_DATA,
  BLOCK_OFFSET_VALID,
  BLOCK_ZERO,
  type BlockDriver,
  type BlockStatus,
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  type RequestFlags,
} from '../../block-driver.ts';
import type { BlockNode } from '../../block-node.ts';
import { type Completion, promised, type Started } from '../../completion.ts';
import { acceptServer } from './accept-server.ts';
import { ClientRequest, type RequestTerms, type StatusExtent } from './client-request.ts';
import { exactFilename } from './exact-filename.ts';
import { LARGEST_LENGTH, setLimits } from './limits.ts';
import { ALLOCATION_DEPTH, nbdOptions } from './options.ts';
import { NbdSession } from './session.ts';

type NbdNode = BlockNode<NbdState>;
/** Its own options, and what reopening has to know of those that all nodes have. */
type NodeOptions = BlockdevOptionsNbd & { readonly 'read-only'?: boolean };

export interface NbdState {
  readonly session: NbdSession;
  /** Bytes of the export, when it was opened. */
  readonly size: number;
  /** The extents tell the depth of allocation: more than one layer down is as good as any. */
  readonly showsDepth: boolean;
}

export const nbd: BlockDriver<NbdState, NodeOptions> = {
  name: 'nbd',
  kind: 'protocol',
  strongOptions: ['export', 'tls-creds', 'tls-hostname', 'server.'],
  noDirectory: 'Cannot generate a base directory for NBD nodes',
  exactFilename: (node) => exactFilename(node.options as BlockdevOptionsNbd),

  async open(node, options, context) {
    const wanted = nbdOptions(options, context);
    const session = new NbdSession({
      nodeName: node.nodeName,
      options: wanted,
      context,
      accept: (info, before) => acceptServer(node, wanted, info, before),
    });
    await session.open();
    return {
      session,
      size: session.info.size,
      showsDepth: wanted.dirtyBitmap === ALLOCATION_DEPTH,
    };
  },
  close(node) {
    node.state.session.close();
  },
  reopen(node, options) {
    const { info } = node.state.session;
    if (options['read-only'] !== true && (info.flags & NBD_FLAG_READ_ONLY) !== 0) {
      throw new QmpError("Can't reopen read-only NBD mount as read/write");
    }
    return { commit() {} };
  },

  length: (node) => node.state.size,
  refreshLimits(node, limits) {
    setLimits(limits, node.state.session.info);
  },

  read(node, offset, length, into, at) {
    return promised((completion) => startRead(node, offset, length, into, at, completion));
  },
  startRead,
  write(node, offset, length, from, at, flags) {
    return promised((completion) => startWrite(node, offset, length, from, at, flags, completion));
  },
  startWrite,
  writesFromPipe: ({ state }) => state.session.sendsFromPipes,
  prefetch(node, offset, length) {
    const there = Math.min(length, node.state.size - offset);
    if (there <= 0 || !offers(node, NBD_FLAG_SEND_CACHE)) return undefined;
    return prefetchParts(node, offset, there);
  },
  writeZeroes(node, offset, length, flags) {
    if (!offers(node, NBD_FLAG_SEND_WRITE_ZEROES)) {
      throw new IoError(errno.ENOTSUP, { syscall: 'NBD write zeroes', offset });
    }
    return request(node, {
      type: NBD_CMD_WRITE_ZEROES,
      flags:
        fuaFlag(flags) |
        ((flags & MAY_UNMAP) === 0 ? NBD_CMD_FLAG_NO_HOLE : 0) |
        ((flags & NO_FALLBACK) === 0 ? 0 : NBD_CMD_FLAG_FAST_ZERO),
      offset,
      length,
    });
  },
  discard(node, offset, length) {
    if (!offers(node, NBD_FLAG_SEND_TRIM)) return undefined;
    return request(node, { type: NBD_CMD_TRIM, flags: 0, offset, length });
  },
  // Whatever was written, and by whomever: the server may have more to flush than what we know of.
  flushToOs(node) {
    if (!offers(node, NBD_FLAG_SEND_FLUSH)) return undefined;
    return request(node, { type: NBD_CMD_FLUSH, flags: 0, offset: 0, length: 0 });
  },
  blockStatus(node, offset, length) {
    const { size, session } = node.state;
    if (session.info.contextId === undefined) return statusOf(node, BLOCK_DATA, offset, length);
    if (offset >= size) return { status: BLOCK_ZERO, length };
    return askStatus(node, offset, Math.min(length, size - offset));
  },
  truncate(node, length, { exact }) {
    const { size } = node.state;
    if (length !== size && exact) throw new QmpError('Cannot resize NBD nodes');
    if (length > size) throw new QmpError('Cannot grow NBD nodes');
  },

  allocatedSize: () => undefined,
};

function startRead(
  node: NbdNode,
  offset: number,
  length: number,
  into: IoBuffer,
  at: number,
  completion: Completion,
  pipes?: PipeSource,
): Started {
  const { size, session } = node.state;
  // The block layer knows whole sectors only: what is behind the end of the export reads as zeroes.
  const there = Math.min(length, Math.max(0, size - offset));
  if (there < length) into.bytes.fill(0, at + there, at + length);
  if (there === 0) return 'done';
  const terms = {
    type: NBD_CMD_READ,
    flags: 0,
    offset,
    length: there,
    buffer: into,
    at,
    // The zeroes behind the end would have to be in the pipe, too.
    pipes: there < length ? undefined : pipes,
  };
  session.submit(new ClientRequest(terms, completion));
  return 'later';
}

function startWrite(
  node: NbdNode,
  offset: number,
  length: number,
  from: IoBuffer,
  at: number,
  flags: RequestFlags,
  completion: Completion,
  pipe?: DataPipe,
): Started {
  const type = NBD_CMD_WRITE;
  const terms = { type, flags: fuaFlag(flags), offset, length, buffer: from, at, from: pipe };
  node.state.session.submit(new ClientRequest(terms, completion));
  return 'later';
}

/** Makes a request that is not made often enough for its promise to matter. */
function request(node: NbdNode, terms: RequestTerms): MaybePromise<void> {
  return promised((completion) => {
    node.state.session.submit(new ClientRequest(terms, completion));
    return 'later';
  });
}

/** The server may refuse more at once than what it takes of data; its alignment holds here, too. */
async function prefetchParts(node: NbdNode, offset: number, length: number): Promise<void> {
  const { requestAlignment: alignment, maxTransfer } = node.limits;
  const end = Math.min(node.state.size, Math.ceil((offset + length) / alignment) * alignment);
  for (let at = offset - (offset % alignment); at < end; at += maxTransfer) {
    const part = Math.min(maxTransfer, end - at);
    await request(node, { type: NBD_CMD_CACHE, flags: 0, offset: at, length: part });
  }
}

async function askStatus(node: NbdNode, offset: number, length: number): Promise<BlockStatus> {
  const { session, showsDepth } = node.state;
  const { minBlock } = session.info;
  const largest = LARGEST_LENGTH - (LARGEST_LENGTH % Math.max(minBlock, 1));
  const terms = {
    type: NBD_CMD_BLOCK_STATUS,
    flags: NBD_CMD_FLAG_REQ_ONE,
    offset,
    length: Math.min(length, largest),
  };
  let extent: StatusExtent | undefined;
  await promised((completion) => {
    const question = new ClientRequest(terms, {
      completed(error) {
        extent = question.extent;
        completion.completed(error);
      },
    });
    session.submit(question);
    return 'later';
  });
  if (extent === undefined) return statusOf(node, BLOCK_DATA, offset, length);
  const flags = showsDepth ? Math.min(extent.flags, 2) : extent.flags;
  const status =
    ((flags & NBD_STATE_HOLE) !== 0 ? 0 : BLOCK_DATA) |
    ((flags & NBD_STATE_ZERO) !== 0 ? BLOCK_ZERO : 0);
  return statusOf(node, status, offset, Math.min(extent.length, length));
}

function statusOf(node: NbdNode, status: number, offset: number, length: number): BlockStatus {
  return { status: status | BLOCK_OFFSET_VALID, length, hostOffset: offset, file: node };
}

function offers(node: NbdNode, flag: number): boolean {
  return (node.state.session.info.flags & flag) !== 0;
}

function fuaFlag(flags: RequestFlags): number {
  return (flags & FUA) === 0 ? 0 : NBD_CMD_FLAG_FUA;
}
