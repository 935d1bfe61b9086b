// blockdev-reopen: new options for nodes that are open, all of a list or none. First every node's new options are worked
// out, those of children that were defined inside it too; then they are checked; then permissions are worked out anew with
// the new settings in place; only then the change is final.

import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevOptions } from '../qapi/generated/types.ts';
import { membersInOrder } from '../qapi/member-order.ts';
import type { BlockChild } from './block-child.ts';
import type { BlockDriver, ChildRole, ReopenStep } from './block-driver.ts';
import { CHILD_COW } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { drainSubtree } from './drain.ts';
import { type FlatOptions, flatten, takeBelow, unflatten } from './flat-options.ts';
import { flush } from './io-flush.ts';
import { refreshLimits } from './limits.ts';
import { checkDetectZeroes, type Inherited, rootDefaults, settingsOf } from './open.ts';
import { keepSpelling } from './option-spelling.ts';
import { refreshPermissions } from './permissions.ts';
import { type ChildName, replaceChild } from './replace-child.ts';

export interface ReopenEnvironment {
  /** By node name; throws QmpError. */
  find(reference: string): BlockNode;
  lookUp(nodeName: string): BlockNode | undefined;
  /** Closes a node that nobody uses. */
  closeUnused(node: BlockNode): Promise<void>;
}

interface Entry {
  readonly node: BlockNode;
  /** All that is to apply, and as much of it as was said of this node itself. */
  readonly options: FlatOptions;
  readonly explicit: FlatOptions;
  readonly settings: Inherited;
  /** `backing` is neither given nor kept. */
  readonly backingMissing: boolean;
}

/** What every driver's nodes have, and may have changed or left out. */
const commonOptions = [
  'discard',
  'cache.direct',
  'cache.no-flush',
  'read-only',
  'auto-read-only',
  'detect-zeroes',
  'active',
] as const;

/** Throws QmpError with the reference's text; everything is as before then. */
export async function reopen(
  environment: ReopenEnvironment,
  list: readonly BlockdevOptions[],
): Promise<void> {
  // The reference aborts.
  if (list.length === 0) throw new QmpError("Parameter 'options' expects at least one node");
  const queue = new Map<BlockNode, Entry>();
  const ends: (() => void)[] = [];
  let unused: readonly BlockNode[] = [];
  try {
    for (const options of list) {
      const node = namedBy(environment, options);
      ends.push(await drainSubtree(node));
      enqueue(queue, node, { options: flatten(options), keepOld: false });
    }
    await flushAll(queue);
    unused = await new Change(environment).carryOut([...queue.values()]);
  } finally {
    for (const end of ends) end();
  }
  for (const node of unused) await environment.closeUnused(node);
}

/** Reopens a node with all of its options but that one as they are. Throws QmpError, everything as before. */
export async function setReadOnly(
  environment: ReopenEnvironment,
  node: BlockNode,
  readOnly: boolean,
): Promise<void> {
  const queue = new Map<BlockNode, Entry>();
  const end = await drainSubtree(node);
  try {
    enqueue(queue, node, { options: { 'read-only': readOnly }, keepOld: true });
    await flushAll(queue);
    await new Change(environment).carryOut([...queue.values()]);
  } finally {
    end();
  }
}

function namedBy(environment: ReopenEnvironment, options: BlockdevOptions): BlockNode {
  const name = options['node-name'];
  if (name === undefined) throw new QmpError('node-name not specified');
  const node = environment.lookUp(name);
  if (node === undefined) throw new QmpError(`Failed to find node with node-name='${name}'`);
  return node;
}

interface Wish {
  /** Undefined: nothing is said of the node. */
  readonly options: FlatOptions | undefined;
  /** Options that are not given stay as they were; else they take their defaults. */
  readonly keepOld: boolean;
  readonly parent?: { readonly options: FlatOptions; readonly role: ChildRole };
}

/** Notes a node and the children that were defined inside it, whose settings may come from it. */
function enqueue(queue: Map<BlockNode, Entry>, node: BlockNode, wish: Wish): void {
  const before = queue.get(node);
  const options: FlatOptions = { ...wish.options };
  if (before !== undefined || wish.keepOld) {
    join(options, before?.explicit ?? own(node, flatten(node.options)));
  }
  const explicit = { ...options };
  if (wish.parent !== undefined) join(options, inheritedOptions(wish.parent));
  if (wish.keepOld) join(options, own(node, node.effectiveOptions));
  // What happens to discards stays as it is, unless it is said.
  const defaults = { ...rootDefaults, forceShare: node.forceShare, unmap: node.unmap };
  const settings = settingsOf(unflatten(options) as BlockdevOptions, defaults);
  const backingMissing =
    !wish.keepOld && options['backing'] === undefined && options['backing.driver'] === undefined;
  queue.set(node, { node, options, explicit, settings, backingMissing });
  for (const child of node.children.toReversed()) {
    if (child.node.inheritsFrom !== node) continue;
    let keepOld = wish.keepOld;
    let below: FlatOptions | undefined;
    if (child.name in options) {
      // Another node takes its place.
      if (options[child.name] !== child.node.nodeName) continue;
      keepOld = true;
    } else {
      takeBelow(explicit, child.name);
      below = takeBelow(options, child.name);
    }
    enqueue(queue, child.node, { options: below, keepOld, parent: { options, role: child.role } });
  }
}

function join(options: FlatOptions, old: FlatOptions): void {
  for (const [name, value] of Object.entries(old)) {
    if (!(name in options)) options[name] = value;
  }
}

/** What a child takes over from the options of its parent. Only what is said there: the rest of its settings stays. */
function inheritedOptions({
  options,
  role,
}: {
  options: FlatOptions;
  role: ChildRole;
}): FlatOptions {
  const isBacking = (role & CHILD_COW) !== 0;
  const names = ['cache.direct', 'cache.no-flush', 'force-share'];
  if (!isBacking) names.push('read-only', 'auto-read-only');
  const taken: FlatOptions = isBacking ? { 'read-only': true, 'auto-read-only': false } : {};
  for (const name of names) {
    if (name in options) taken[name] = options[name];
  }
  return { ...taken, discard: 'unmap' };
}

/** Options of a node without those of its children. */
function own(node: BlockNode, options: FlatOptions): FlatOptions {
  const kept = { ...options };
  for (const name of new Set(['file', 'backing', ...node.children.map((child) => child.name)])) {
    delete kept[name];
    takeBelow(kept, name);
  }
  return kept;
}

async function flushAll(queue: ReadonlyMap<BlockNode, Entry>): Promise<void> {
  for (const node of queue.keys()) {
    try {
      await flush(node);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      throw new QmpError(`Error flushing drive: ${error.reason}`, { cause: error });
    }
  }
}

/** The change as it is made: what can be undone of it, and what is still to come. */
class Change {
  readonly #environment: ReopenEnvironment;
  readonly #undo: (() => void | Promise<void>)[] = [];
  readonly #steps: ReopenStep[] = [];
  /** Children that were replaced. */
  readonly #old: BlockNode[] = [];

  constructor(environment: ReopenEnvironment) {
    this.#environment = environment;
  }

  /** Makes the change or throws. Answers the nodes that may have lost their last user. */
  async carryOut(entries: readonly Entry[]): Promise<readonly BlockNode[]> {
    const wereReadOnly = new Map(entries.map(({ node }) => [node, node.readOnly]));
    try {
      for (const entry of entries) await this.#prepare(entry);
      for (const entry of entries) this.#applySettings(entry);
      refreshPermissions([...entries.map(({ node }) => node), ...this.#old], wereReadOnly);
    } catch (error) {
      for (const step of this.#undo.toReversed()) await step();
      throw error;
    }
    for (const step of this.#steps.toReversed()) step.commit();
    for (const entry of entries.toReversed()) settle(entry);
    for (const step of this.#steps.toReversed()) await step.afterCommit?.();
    return this.#old;
  }

  async #prepare(entry: Entry): Promise<void> {
    const { node, settings } = entry;
    const { driver } = node;
    if (!node.active) throw new QmpError(`Cannot reopen inactive node '${node.nodeName}'`);
    if (!settings.active) throw new QmpError("Cannot change the option 'active'");
    const left: FlatOptions = { ...entry.options };
    for (const name of commonOptions) delete left[name];
    // The reference has it as text from here on, so that it differs from what it was, whatever it is.
    if ('force-share' in left) left['force-share'] = left['force-share'] === true ? 'on' : 'off';
    const options = unflatten(entry.options) as BlockdevOptions;
    checkDetectZeroes(options, settings);
    await this.#prepareDriver(node, options, left);
    for (const name of driver.mutableOptions ?? []) delete left[name];
    for (const name of driver.changeableOptions ?? []) delete left[name];
    if (entry.backingMissing && hasBacking(node)) {
      throw new QmpError(`backing is missing for '${node.nodeName}'`);
    }
    for (const name of ['backing', 'file'] as const) {
      if (!(name in entry.options)) continue;
      this.#replace(node, name, entry.options[name]);
      delete left[name];
    }
    refuseChanges(node, left);
  }

  async #prepareDriver(
    node: BlockNode,
    options: BlockdevOptions,
    left: FlatOptions,
  ): Promise<void> {
    const driver: BlockDriver = node.driver;
    if (driver.reopen === undefined) {
      throw new QmpError(
        `Block format '${driver.name}' used by node '${node.nodeName}' does not support reopening files`,
      );
    }
    refuseResets(node, left);
    const step = await driver.reopen(node, options as never);
    this.#steps.push(step);
    this.#undo.push(() => step.abort?.());
  }

  #replace(node: BlockNode, name: ChildName, reference: unknown): void {
    const child = typeof reference === 'string' ? this.#environment.find(reference) : undefined;
    const replaced = replaceChild(node, name, child);
    if (replaced === undefined) return;
    if (replaced.old !== undefined) this.#old.push(replaced.old);
    this.#undo.push(replaced.undo);
  }

  #applySettings({ node, settings, options }: Entry): void {
    const { readOnly, autoReadOnly, cacheDirect, cacheNoFlush, unmap, detectZeroes } = node;
    const old = { readOnly, autoReadOnly, cacheDirect, cacheNoFlush, unmap, detectZeroes };
    this.#undo.push(() => void Object.assign(node, old));
    const { forceShare: _, active: __, ...changed } = settings;
    Object.assign(node, changed, { detectZeroes: options['detect-zeroes'] ?? 'off' });
  }
}

/** It has a backing file, or its image names one. */
function hasBacking(node: BlockNode): boolean {
  const { driver, backing } = node;
  if (driver.supportsBacking !== true) return false;
  return backing !== undefined || driver.describeImage?.(node)['backing-filename'] !== undefined;
}

/** An option that was given and is not any more would have to take its default. */
function refuseResets(node: BlockNode, left: FlatOptions): void {
  const optional: readonly string[] = [
    'node-name',
    ...commonOptions,
    ...(node.driver.mutableOptions ?? []),
  ];
  for (const name of membersInOrder(own(node, node.effectiveOptions))) {
    if (name in left || optional.includes(name)) continue;
    throw new QmpError(`Option '${name}' cannot be reset to its default value`);
  }
}

/** What nobody has dealt with must be as it was. A child may be named as long as it is that child. */
function refuseChanges(node: BlockNode, left: FlatOptions): void {
  const old = own(node, node.effectiveOptions);
  for (const name of membersInOrder(left)) {
    const child: BlockChild | undefined = node.children.find((each) => each.name === name);
    if (child !== undefined && child.node.nodeName === left[name]) continue;
    if (left[name] !== old[name]) throw new QmpError(`Cannot change the option '${name}'`);
  }
}

function settle({ node, options, explicit }: Entry): void {
  const before = node.options;
  node.options = unflatten(own(node, explicit)) as BlockdevOptions;
  keepSpelling(before, node.options);
  node.effectiveOptions = own(node, options);
  refreshLimitsUp(node);
}

/** Limits of a node are those of the nodes below it, in part. */
function refreshLimitsUp(node: BlockNode): void {
  refreshLimits(node);
  for (const user of node.parents) {
    if (user.parent.parentNode !== undefined) refreshLimitsUp(user.parent.parentNode);
  }
}
