// From options to nodes: settings a child inherits, the order of checks, and releasing what was opened when one fails.

import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevOptions, BlockdevRef } from '../qapi/generated/types.ts';
import { membersInOrder } from '../qapi/member-order.ts';
import type { BlockChild, ChildParent } from './block-child.ts';
import type { BlockDriver, ChildRole } from './block-driver.ts';
import { CHILD_COW, CHILD_IMAGE, PERM_ALL } from './block-driver.ts';
import { BlockNode } from './block-node.ts';
import type { BouncePool } from './bounce-pool.ts';
import type { DriverServices } from './driver-context.ts';
import { attachRoot, detachEdge } from './edges.ts';
import { filenameOf } from './filename.ts';
import { refreshLimits } from './limits.ts';

/** What a graph lends to opening: finding, registering, attaching and letting go of nodes. */
export interface OpenEnvironment {
  readonly services: DriverServices;
  readonly pool: BouncePool;
  driver(name: BlockdevOptions['driver']): BlockDriver;
  /** By node name; throws QmpError. */
  find(reference: string): BlockNode;
  lookUp(nodeName: string): BlockNode | undefined;
  /** The name a node gets; throws QmpError. */
  nodeName(given: string | undefined): string;
  register(node: BlockNode): void;
  /** Closes what a node that failed to open has open, its children too, and takes it off the list. */
  abandon(node: BlockNode): Promise<void>;
  attach(parent: BlockNode, child: BlockNode, name: string, role: ChildRole): BlockChild;
  /** Closes a node that nobody uses. */
  closeUnused(node: BlockNode): Promise<void>;
}

/** Settings that a child takes over where it has none of its own. */
export interface Inherited {
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly forceShare: boolean;
  readonly active: boolean;
  readonly cacheDirect: boolean;
  readonly cacheNoFlush: boolean;
  readonly unmap: boolean;
  /** How many nodes are being opened for each other above this one. */
  readonly depth: number;
}

/** Deeper, an image is taken to be its own backing file. */
const DEEPEST = 200;

/** What a node that was added by the user inherits. */
export const rootDefaults: Inherited = {
  readOnly: false,
  autoReadOnly: false,
  forceShare: false,
  active: true,
  cacheDirect: false,
  cacheNoFlush: false,
  unmap: false,
  depth: 0,
};

/** Opens a node and its inline children. Throws QmpError with the reference's text; nothing stays open then. */
export async function openNode(
  environment: OpenEnvironment,
  options: BlockdevOptions,
  inherited: Inherited,
): Promise<BlockNode> {
  if (inherited.depth > DEEPEST) throw new QmpError('Too many nodes below each other');
  const driver = environment.driver(options.driver);
  const settings = settingsOf(options, inherited);
  // Formats open their file before anything about themselves is looked at.
  const file = await openFile(environment, driver, options, settings);
  let node: BlockNode | undefined;
  try {
    checkSettings(driver, options, settings);
    node = new BlockNode({
      ...settings,
      nodeName: environment.nodeName(options['node-name']),
      driver,
      options,
      detectZeroes: options['detect-zeroes'] ?? 'off',
      pool: environment.pool,
    });
    environment.register(node);
    await openWithDriver(environment, node, settings, file);
    return node;
  } catch (error) {
    const shown = openError(error, file === undefined ? filenameOption(options) : filenameOf(file));
    if (node !== undefined) await environment.abandon(node);
    if (file !== undefined) await environment.closeUnused(file);
    throw shown;
  }
}

/** What a child in `role` takes over from its parent's settings. */
function inheritedBy(role: ChildRole, parent: Inherited): Inherited {
  // Discards are filtered where they enter, so layers below may have them on.
  const all = { ...parent, unmap: true, depth: parent.depth + 1 };
  if ((role & CHILD_COW) === 0) return all;
  return { ...all, readOnly: true, autoReadOnly: false };
}

/** What a node's options and what it inherits come to. */
export function settingsOf(options: BlockdevOptions, inherited: Inherited): Inherited {
  return {
    readOnly: options['read-only'] ?? inherited.readOnly,
    autoReadOnly: options['auto-read-only'] ?? inherited.autoReadOnly,
    forceShare: options['force-share'] ?? inherited.forceShare,
    active: options.active ?? inherited.active,
    cacheDirect: options.cache?.direct ?? inherited.cacheDirect,
    cacheNoFlush: options.cache?.['no-flush'] ?? inherited.cacheNoFlush,
    unmap: options.discard === undefined ? inherited.unmap : options.discard === 'unmap',
    depth: inherited.depth,
  };
}

function checkSettings(driver: BlockDriver, options: BlockdevOptions, settings: Inherited): void {
  if (settings.forceShare && !settings.readOnly) {
    throw new QmpError('force-share=on can only be used with read-only images');
  }
  if (driver.needsFilename === true && !filenameOption(options)) {
    throw new QmpError(`The '${driver.name}' block driver requires a file name`);
  }
  checkDetectZeroes(options, settings);
}

/** Throws QmpError. */
export function checkDetectZeroes(options: BlockdevOptions, { unmap }: Inherited): void {
  if (options['detect-zeroes'] !== 'unmap' || unmap) return;
  throw new QmpError(
    'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap',
  );
}

/** A format's or filter's `file`, opened or found. */
async function openFile(
  environment: OpenEnvironment,
  driver: BlockDriver,
  options: BlockdevOptions,
  settings: Inherited,
): Promise<BlockNode | undefined> {
  const reference = (options as { file?: BlockdevRef }).file;
  if (driver.kind === 'protocol' || reference === undefined) return undefined;
  const file = await resolve(environment, reference, inheritedBy(CHILD_IMAGE, settings));
  try {
    lookAt(file);
  } catch (error) {
    await environment.closeUnused(file);
    throw error;
  }
  return file;
}

/** The reference reads a file's header as one more user of it, who asks for nothing; that there is one may be a conflict. */
function lookAt(file: BlockNode): void {
  const nothing = (): void => {};
  const parent: ChildParent = {
    parentNode: undefined,
    describe: () => 'an unnamed block device',
    drainBegin: nothing,
    drainEnd: nothing,
    resized: nothing,
  };
  detachEdge(attachRoot(file, parent, { perm: 0, shared: PERM_ALL }));
}

async function resolve(
  environment: OpenEnvironment,
  reference: BlockdevRef,
  inherited: Inherited,
): Promise<BlockNode> {
  if (typeof reference === 'string') return environment.find(reference);
  return openNode(environment, reference, inherited);
}

async function openWithDriver(
  environment: OpenEnvironment,
  node: BlockNode,
  settings: Inherited,
  file: BlockNode | undefined,
): Promise<void> {
  const openChild = async (
    name: string,
    reference: BlockdevRef,
    role: ChildRole,
    failing = '',
  ): Promise<BlockChild> => {
    const isFile = name === 'file' && file !== undefined;
    const child = isFile
      ? file
      : await resolve(environment, reference, inheritedBy(role, settings)).catch(
          (error: unknown) => {
            throw prefixed(failing, error);
          },
        );
    try {
      const edge = environment.attach(node, child, name, role);
      if (typeof reference !== 'string') child.inheritsFrom = node;
      return edge;
    } catch (error) {
      if (!isFile) await environment.closeUnused(child);
      throw error;
    }
  };
  node.state = await node.driver.open(node, node.options as never, {
    ...environment.services,
    openChild,
    lookUp: (name) => environment.lookUp(name),
    driver: (name) => environment.driver(name),
  });
  node.phase = 'open';
  if (node.drained > 0) node.driver.drainBegin?.(node);
  try {
    node.refreshLength();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Could not refresh total sector count: ${error.reason}`, { cause: error });
  }
  refreshLimits(node);
  refuseEmpty(node);
}

function prefixed(text: string, error: unknown): unknown {
  if (!(error instanceof QmpError) || text === '') return error;
  return new QmpError(`${text}: ${error.message}`, {
    class: error.class,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error,
  });
}

/** The reference takes options apart by their members: one without any is left over as an option nobody knows. */
function refuseEmpty(node: BlockNode): void {
  const options: Readonly<Record<string, unknown>> = { ...node.options };
  for (const name of membersInOrder(options)) {
    const value = options[name];
    const isEmpty = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
    if (!isEmpty || node.driver.takesEmpty?.includes(name) === true) continue;
    const { name: driver, kind, isProtocol } = node.driver;
    throw new QmpError(
      kind === 'protocol' || isProtocol === true
        ? `Block protocol '${driver}' doesn't support the option '${name}'`
        : `Block format '${driver}' does not support the option '${name}'`,
    );
  }
}

function openError(error: unknown, filename: string | undefined): unknown {
  if (!(error instanceof IoError)) return error;
  const what = filename === undefined ? 'image' : `'${filename}'`;
  return new QmpError(`Could not open ${what}: ${error.reason}`, { cause: error });
}

function filenameOption(options: BlockdevOptions): string | undefined {
  const { filename } = options as { filename?: string };
  return filename === '' ? undefined : filename;
}
