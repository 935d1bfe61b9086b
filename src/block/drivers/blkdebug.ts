// The filter `blkdebug`: makes requests fail when its rules say so, and has alignments and limits as it is told.

import { open } from 'node:fs/promises';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import { QmpError } from '../../qapi/errors.ts';
import type {
  BlkdebugIOType,
  BlockdevOptionsBlkdebug,
  BlockPermission,
} from '../../qapi/generated/types.ts';
import { O_NONBLOCK, O_RDONLY } from '../../sys/file.ts';
import {
  BLOCK_OFFSET_VALID,
  BLOCK_RAW,
  type BlockDriver,
  CHILD_FILTER,
  type Permissions,
} from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { NodeBreakpoints } from '../debug-breakpoints.ts';
import { debugConfig } from '../debug-config.ts';
import { DebugRules, type RuleOptions } from '../debug-rules.ts';
import { exactFilenameOf } from '../filename.ts';
import { filteredChild, passFlags, passThrough } from '../filter.ts';
import { notSupported } from '../io-zero.ts';
import { permissionBits } from '../permissions.ts';
import { checkSize } from '../size-option.ts';

/** Nobody's rules are longer; bytes. */
const MAX_CONFIG = 1024 * 1024;
const INT_MAX = 2 ** 31 - 1;

/** Bytes; 0 for what the node below has. */
interface Limits {
  readonly align: number;
  readonly maxTransfer: number;
  readonly optWriteZero: number;
  readonly maxWriteZero: number;
  readonly optDiscard: number;
  readonly maxDiscard: number;
}

export interface BlkdebugState {
  readonly rules: DebugRules;
  readonly breakpoints: NodeBreakpoints;
  readonly limits: Limits;
  readonly taken: Permissions;
  readonly unshared: Permissions;
}

type BlkdebugNode = BlockNode<BlkdebugState>;

export const blkdebug: BlockDriver<BlkdebugState, BlockdevOptionsBlkdebug> = {
  name: 'blkdebug',
  kind: 'filter',
  isProtocol: true,
  strongOptions: [
    'config',
    'inject-error.',
    'set-state.',
    'align',
    'max-transfer',
    'opt-write-zero',
    'max-write-zero',
    'opt-discard',
    'max-discard',
  ],
  exactFilename(node) {
    const options = node.options as BlockdevOptionsBlkdebug;
    const others = blkdebug.strongOptions.filter((name) => name !== 'config');
    const plain = others.every((name) => !Object.hasOwn(options, name.replace(/\.$/, '')));
    const image = plain ? exactFilenameOf(filteredChild(node).node) : undefined;
    return image === undefined ? undefined : `blkdebug:${options.config ?? ''}:${image}`;
  },

  async open(node, options, context) {
    checkSizes(options);
    const rules = new DebugRules(await rulesFrom(options));
    const taken = permissionsFrom(options['take-child-perms']);
    const unshared = permissionsFrom(options['unshare-child-perms']);
    // Its own permissions are asked while the child is attached.
    const breakpoints = new NodeBreakpoints();
    node.state = { rules, breakpoints, limits: noLimits, taken, unshared };
    const image = await context.openChild('image', options.image, CHILD_FILTER);
    passFlags(node);
    const limits = limitsFrom(options, image.node);
    rules.event('none');
    return { rules, breakpoints, limits, taken, unshared };
  },
  reopen() {
    return { commit() {} };
  },
  debugEvent(node, event) {
    node.state.rules.event(event);
    node.state.breakpoints.event(event);
  },

  length: passThrough.length,
  refreshLimits({ state: { limits: own } }, limits) {
    if (own.align > 0) limits.requestAlignment = own.align;
    if (own.maxTransfer > 0) limits.maxTransfer = own.maxTransfer;
    if (own.optWriteZero > 0) limits.zeroAlignment = own.optWriteZero;
    if (own.maxWriteZero > 0) limits.maxWriteZeroes = own.maxWriteZero;
    if (own.optDiscard > 0) limits.discardAlignment = own.optDiscard;
    if (own.maxDiscard > 0) limits.maxDiscard = own.maxDiscard;
  },

  read(node, offset, length, into, at, flags) {
    return checked(node, 'read', offset, length, () =>
      filteredChild(node).read(offset, length, into, at, flags),
    );
  },
  write(node, offset, length, from, at, flags) {
    return checked(node, 'write', offset, length, () =>
      filteredChild(node).write(offset, length, from, at, flags),
    );
  },
  writeZeroes(node, offset, length, flags) {
    const { requestAlignment, zeroAlignment } = node.limits;
    // So that writing zeroes as data gets its tests, too.
    if (length < Math.max(requestAlignment, zeroAlignment)) throw notSupported(offset);
    return checked(node, 'write-zeroes', offset, length, () =>
      filteredChild(node).writeZeroes(offset, length, flags),
    );
  },
  discard(node, offset, length) {
    if (length < node.limits.requestAlignment) {
      throw new IoError(errno.ENOTSUP, { syscall: 'discard', offset });
    }
    return checked(node, 'discard', offset, length, () =>
      filteredChild(node).discard(offset, length),
    );
  },
  flush: (node) => checked(node, 'flush', 0, 0, () => undefined),
  blockStatus(node, offset, length) {
    return checked(node, 'block-status', offset, length, () => ({
      status: BLOCK_RAW | BLOCK_OFFSET_VALID,
      length,
      hostOffset: offset,
      file: filteredChild(node).node,
    }));
  },

  childPermissions({ state: { taken, unshared } }, _role, { perm, shared }) {
    return { perm: perm | taken, shared: shared & ~unshared };
  },
};

/** The breakpoints of a node; undefined when it is no blkdebug node. */
export function breakpointsOf(node: BlockNode): NodeBreakpoints | undefined {
  return node.driver.name === blkdebug.name ? (node as BlkdebugNode).state.breakpoints : undefined;
}

/** Carries out a request, when it may go on, and unless it shall fail. */
function checked<T>(
  node: BlkdebugNode,
  iotype: BlkdebugIOType,
  offset: number,
  length: number,
  run: () => MaybePromise<T>,
): MaybePromise<T> {
  const held = node.state.breakpoints.hold();
  if (held === undefined) return fail(node, iotype, offset, length) ?? run();
  return held.then(() => fail(node, iotype, offset, length) ?? run());
}

/** Throws or rejects when the request shall fail; otherwise nothing. */
function fail(
  { state: { rules } }: BlkdebugNode,
  iotype: BlkdebugIOType,
  offset: number,
  length: number,
): Promise<never> | undefined {
  const failure = rules.failure(iotype, offset, length);
  if (failure === undefined) return undefined;
  const error = new IoError(failure.errno, { syscall: iotype, offset });
  if (failure.immediately) throw error;
  return new Promise((_, reject) => setImmediate(() => reject(error)));
}

const noLimits: Limits = {
  align: 0,
  maxTransfer: 0,
  optWriteZero: 0,
  maxWriteZero: 0,
  optDiscard: 0,
  maxDiscard: 0,
};

const sizes = [
  'align',
  'max-transfer',
  'opt-write-zero',
  'max-write-zero',
  'opt-discard',
  'max-discard',
] as const;

function checkSizes(options: BlockdevOptionsBlkdebug): void {
  for (const name of sizes) checkSize(name, options[name] ?? 0);
}

/** Throws QmpError. */
function limitsFrom(options: BlockdevOptionsBlkdebug, below: BlockNode): Limits {
  const limit = (name: (typeof sizes)[number], unit: number): number => {
    const size = options[name] ?? 0;
    if (size < INT_MAX && size % unit === 0) return size;
    throw new QmpError(`Cannot meet constraints with ${name} ${size}`);
  };
  const align = limit('align', 1);
  if (align > 0 && !Number.isInteger(Math.log2(align))) {
    throw new QmpError(`Cannot meet constraints with align ${align}`);
  }
  const unit = Math.max(align, below.limits.requestAlignment);
  const maxTransfer = limit('max-transfer', unit);
  const optWriteZero = limit('opt-write-zero', unit);
  const maxWriteZero = limit('max-write-zero', Math.max(optWriteZero, unit));
  const optDiscard = limit('opt-discard', unit);
  const maxDiscard = limit('max-discard', Math.max(optDiscard, unit));
  return { align, maxTransfer, optWriteZero, maxWriteZero, optDiscard, maxDiscard };
}

async function rulesFrom(options: BlockdevOptionsBlkdebug): Promise<RuleOptions> {
  const { config, 'inject-error': injectError = [], 'set-state': setState = [] } = options;
  const given = { injectError, setState };
  if (config === undefined) return given;
  const read = debugConfig(await readConfig(config));
  return {
    injectError: [...read.injectError, ...given.injectError],
    setState: [...read.setState, ...given.setState],
  };
}

/** An image may name the file: a pipe that nobody writes to must not be waited for. Throws QmpError. */
async function readConfig(path: string): Promise<string> {
  const file = await open(path, O_RDONLY | O_NONBLOCK).catch((error: unknown) => {
    throw configError('Could not read blkdebug config file', error);
  });
  try {
    const buffer = Buffer.alloc(MAX_CONFIG);
    const { bytesRead } = await file.read(buffer, 0, MAX_CONFIG, null).catch((error: unknown) => {
      throw configError('Cannot read config file', error);
    });
    if (bytesRead === MAX_CONFIG) {
      throw new QmpError(`The blkdebug config file has more than ${MAX_CONFIG} bytes`);
    }
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function configError(what: string, error: unknown): QmpError {
  const { errno: negative = -errno.EIO } = error as NodeJS.ErrnoException;
  const { reason } = new IoError(-negative, { syscall: 'read' });
  return new QmpError(`${what}: ${reason}`, { cause: error });
}

function permissionsFrom(names: readonly BlockPermission[] | undefined): Permissions {
  return (names ?? []).reduce((bits, name) => bits | permissionBits[name], 0);
}
