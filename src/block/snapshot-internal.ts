// Internal snapshots: found through nodes that only pass on another one's content, told, taken and deleted.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevSnapshotInternal, SnapshotInfo } from '../qapi/generated/types.ts';
import { CHILD_DATA, CHILD_FILTERED, CHILD_METADATA, CHILD_PRIMARY } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { drainBegin, whileDrained } from './drain.ts';
import type { GraphAccess } from './graph-access.ts';
import type { InternalSnapshot, SnapshotSelector } from './internal-snapshot.ts';
import { checkNotBlocked } from './op-blockers.ts';
import type { TransactionAction } from './transaction.ts';

/** The snapshots of a node's image. Throws IoError, ENOTSUP when it cannot have any. */
export function internalSnapshots(node: BlockNode): readonly InternalSnapshot[] {
  const owner = snapshotOwner(node);
  const functions = owner?.driver.internalSnapshots;
  if (owner === undefined || functions === undefined) throw notSupported();
  return functions.list(owner);
}

/** Nothing is told of a node without an image that can have them. */
export function describedSnapshots(node: BlockNode): readonly InternalSnapshot[] {
  try {
    return internalSnapshots(node);
  } catch (error) {
    if (error instanceof IoError && error.errno === errno.ENOTSUP) return [];
    throw error;
  }
}

export function snapshotInfo(snapshot: InternalSnapshot): SnapshotInfo {
  const { vmClockNanoseconds, icount } = snapshot;
  const second = 1_000_000_000n;
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': signed(snapshot.vmStateSize),
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': Number(vmClockNanoseconds / second),
    'vm-clock-nsec': Number(vmClockNanoseconds % second),
    ...(icount === undefined ? {} : { icount: signed(icount) }),
  };
}

/** blockdev-snapshot-internal-sync. */
export class InternalSnapshotAction implements TransactionAction {
  readonly #graph: GraphAccess;
  readonly #device: string;
  readonly #name: string;
  #created: { readonly owner: BlockNode; readonly id: string } | undefined = undefined;
  #drained: (() => void) | undefined = undefined;

  constructor(graph: GraphAccess, { device, name }: BlockdevSnapshotInternal) {
    this.#graph = graph;
    this.#device = device;
    this.#name = name;
  }

  async prepare(): Promise<void> {
    const device = this.#device;
    const name = this.#name;
    const node = findRoot(this.#graph, device);
    const owner = snapshotOwner(node);
    this.#drained = await drainBegin(owner ?? node);
    checkNotBlocked(node);
    if (node.readOnly) throw new QmpError(`Device '${device}' is read only`);
    const functions = owner?.driver.internalSnapshots;
    if (owner === undefined || functions === undefined || !isWritable(node)) {
      throw new QmpError(
        `Block format '${node.driver.name}' used by device '${device}' does not support internal snapshots`,
      );
    }
    if (name === '') throw new QmpError('Name is empty');
    if (listOf(node).some((one) => one.name === name)) {
      throw new QmpError(`Snapshot with name '${name}' already exists on device '${device}'`);
    }
    const now = Math.floor((performance.timeOrigin + performance.now()) * 1000);
    try {
      const id = await functions.create(owner, {
        name,
        dateSeconds: Math.floor(now / 1_000_000),
        dateNanoseconds: (now % 1_000_000) * 1000,
        // No machine, no clock of its own.
        vmClockNanoseconds: BigInt(now) * 1000n,
      });
      this.#created = { owner, id };
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      throw new QmpError(
        `Failed to create snapshot '${name}' on device '${device}': ${error.reason}`,
        { cause: error },
      );
    }
  }

  async abort(): Promise<void> {
    if (this.#created === undefined) return;
    const { owner, id } = this.#created;
    try {
      await owner.driver.internalSnapshots?.delete(owner, { id, name: undefined });
    } catch (error) {
      this.#graph.log.error(
        `Failed to delete snapshot with id '${id}' and name '${this.#name}' on device ` +
          `'${this.#device}' in abort: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  clean(): void {
    this.#drained?.();
  }
}

/** blockdev-snapshot-delete-internal-sync. Throws QmpError. */
export async function deleteInternalSnapshot(
  graph: GraphAccess,
  { device, id, name }: { device: string; id?: string; name?: string },
): Promise<SnapshotInfo> {
  const node = findRoot(graph, device);
  if (id === undefined && name === undefined) throw new QmpError('Name or id must be provided');
  checkNotBlocked(node);
  const selector: SnapshotSelector = { id, name };
  const found = listOf(node).find(
    (one) => (id === undefined || one.id === id) && (name === undefined || one.name === name),
  );
  if (found === undefined) {
    throw new QmpError(
      `Snapshot with id '${id ?? 'null'}' and name '${name ?? 'null'}' does not exist on device '${device}'`,
    );
  }
  const owner = snapshotOwner(node);
  if (owner === undefined) throw new Error('Its snapshots were listed');
  for (const { active, nodeName } of [node, owner]) {
    if (!active) throw new QmpError(`Node '${nodeName}' is inactive`);
  }
  await whileDrained(owner, async () => owner.driver.internalSnapshots?.delete(owner, selector));
  return snapshotInfo(found);
}

/** The node that `device` names, if no other node uses it. Throws QmpError. */
export function findRoot(graph: GraphAccess, device: string): BlockNode {
  const node = graph.find(device, device);
  if (node.parents.some((edge) => edge.parent.parentNode !== undefined)) {
    throw new QmpError('Need a root block node');
  }
  return node;
}

/** The node itself, or the one below whose image has all of its content. */
function snapshotOwner(node: BlockNode): BlockNode | undefined {
  if (node.driver.internalSnapshots !== undefined) return node;
  const holds = CHILD_DATA | CHILD_METADATA | CHILD_FILTERED;
  const [only, ...others] = node.children.filter((child) => (child.role & holds) !== 0);
  if (only === undefined || others.length > 0 || (only.role & CHILD_PRIMARY) === 0)
    return undefined;
  return snapshotOwner(only.node);
}

/** The node and those through which its image is reached. */
function isWritable(node: BlockNode): boolean {
  if (!node.writable) return false;
  if (node.driver.internalSnapshots !== undefined) return true;
  const below = node.children.find((child) => (child.role & CHILD_PRIMARY) !== 0)?.node;
  return below === undefined || isWritable(below);
}

function listOf(node: BlockNode): readonly InternalSnapshot[] {
  try {
    return internalSnapshots(node);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`Failed to get a snapshot list: ${error.reason}`, { cause: error });
  }
}

/** As the reference tells it: it takes the number for one with a sign. Exact below 2^53. */
function signed(value: bigint): number {
  return Number(BigInt.asIntN(64, value));
}

function notSupported(): IoError {
  return new IoError(errno.ENOTSUP, { syscall: 'snapshot' });
}
