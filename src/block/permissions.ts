// Who may do what to a node. Each user of a node holds permissions and says which ones it shares; a change to one edge is
// worked out over the whole subtree below and either takes effect everywhere or nowhere.

import { QmpError } from '../qapi/errors.ts';
import type { BlockPermission } from '../qapi/generated/types.ts';
import type { BlockChild } from './block-child.ts';
import type { ChildRole, PermissionPair, Permissions } from './block-driver.ts';
import {
  CHILD_COW,
  CHILD_DATA,
  CHILD_FILTERED,
  CHILD_METADATA,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  PERM_WRITE_UNCHANGED,
} from './block-driver.ts';
import type { BlockNode } from './block-node.ts';

const WRITES = PERM_WRITE | PERM_WRITE_UNCHANGED;

const names = [
  [PERM_CONSISTENT_READ, 'consistent read'],
  [PERM_WRITE, 'write'],
  [PERM_WRITE_UNCHANGED, 'write unchanged'],
  [PERM_RESIZE, 'resize'],
] as const;

/** By the names that the schema has for them. */
export const permissionBits = {
  'consistent-read': PERM_CONSISTENT_READ,
  write: PERM_WRITE,
  'write-unchanged': PERM_WRITE_UNCHANGED,
  resize: PERM_RESIZE,
} as const satisfies Record<BlockPermission, Permissions>;

/** `write, resize` */
export function permissionNames(perm: Permissions): string {
  return names
    .filter(([bit]) => (perm & bit) !== 0)
    .map(([, name]) => name)
    .join(', ');
}

/** What all users of a node together hold, and what every one of them shares. */
export function cumulativePermissions(node: BlockNode): PermissionPair {
  let perm = 0;
  let shared = PERM_ALL;
  for (const user of node.parents) {
    perm |= user.perm;
    shared &= user.sharedPerm;
  }
  return { perm, shared };
}

/** What a node needs on a child in `role`, given what its own users have. */
export function childPermissions(
  node: BlockNode,
  child: BlockNode,
  role: ChildRole,
  users: PermissionPair,
): PermissionPair {
  let { perm, shared } =
    node.driver.childPermissions?.(node, role, users) ?? defaultChildPermissions(node, role, users);
  if (!node.active) {
    // It only looks, and others may change what it looks at.
    perm &= PERM_CONSISTENT_READ;
    shared |= PERM_WRITE | PERM_RESIZE;
  }
  return { perm, shared: child.forceShare ? PERM_ALL : shared };
}

/** The rules that do for most drivers, by role. */
export function defaultChildPermissions(
  node: BlockNode,
  role: ChildRole,
  users: PermissionPair,
): PermissionPair {
  if ((role & CHILD_FILTERED) !== 0) return users;
  if ((role & CHILD_COW) !== 0) {
    // A backing file is only read; who can live with changing data can live with it being written and resized.
    const change = (users.shared & PERM_WRITE) !== 0 ? PERM_WRITE | PERM_RESIZE : 0;
    return {
      perm: users.perm & PERM_CONSISTENT_READ,
      shared: change | PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED,
    };
  }
  let { perm, shared } = users;
  if ((role & CHILD_METADATA) !== 0) {
    // A format may touch its metadata though nobody writes, and relies on nobody else touching them.
    if (!node.readOnly) perm |= PERM_WRITE | PERM_RESIZE;
    perm |= PERM_CONSISTENT_READ;
    shared &= ~(PERM_WRITE | PERM_RESIZE);
  }
  if ((role & CHILD_DATA) !== 0) {
    // Formats rely on the size; what leaves a guest's view unchanged may still write the file, and make it longer.
    shared &= ~PERM_RESIZE;
    if ((perm & PERM_WRITE_UNCHANGED) !== 0) perm |= PERM_WRITE;
    if ((perm & PERM_WRITE) !== 0) perm |= PERM_RESIZE;
  }
  return { perm, shared };
}

/**
 * Gives an edge new permissions. Throws QmpError with the conflict text, everything as before; failing to give something up
 * is not an error.
 */
export function setChildPermissions(child: BlockChild, next: PermissionPair): void {
  const { perm, sharedPerm } = child;
  child.perm = next.perm;
  child.sharedPerm = next.shared;
  try {
    refreshPermissions([child.node]);
  } catch (error) {
    child.perm = perm;
    child.sharedPerm = sharedPerm;
    if ((next.perm & ~perm) !== 0 || (sharedPerm & ~next.shared) !== 0) throw error;
  }
}

/**
 * Works out the permissions of all edges below `roots` from those of their users. Throws QmpError, everything as before.
 * `wereReadOnly`: nodes that are being reopened.
 */
export function refreshPermissions(
  roots: readonly BlockNode[],
  wereReadOnly?: ReadonlyMap<BlockNode, boolean>,
): void {
  const undo: (() => void)[] = [];
  const commit: (() => void)[] = [];
  try {
    for (const node of topDown(roots)) {
      checkActive(node);
      checkConflicts(node);
      const users = cumulativePermissions(node);
      checkWritable(node, users.perm, wereReadOnly?.get(node) ?? true);
      node.driver.checkPermissions?.(node, users.perm, users.shared);
      undo.push(() => node.driver.abortPermissions?.(node));
      commit.push(() => {
        node.perm = users.perm;
        node.sharedPerm = users.shared;
        node.driver.setPermissions?.(node, users.perm, users.shared);
      });
      for (const child of node.children) {
        const { perm, sharedPerm } = child;
        undo.push(() => {
          child.perm = perm;
          child.sharedPerm = sharedPerm;
        });
        const next = childPermissions(node, child.node, child.role, users);
        child.perm = next.perm;
        child.sharedPerm = next.shared;
      }
    }
  } catch (error) {
    for (const step of undo.toReversed()) step();
    throw error;
  }
  for (const step of commit) step();
}

/** Every node below and including `roots`, each before its children, and those with the oldest first. */
function topDown(roots: readonly BlockNode[]): BlockNode[] {
  const bottomUp: BlockNode[] = [];
  const seen = new Set<BlockNode>();
  const visit = (node: BlockNode): void => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const child of node.children.toReversed()) visit(child.node);
    bottomUp.push(node);
  };
  for (const root of roots) visit(root);
  return bottomUp.reverse();
}

/** An active node can only stand on active ones, and an inactive one can only be read. Comes before conflicts. */
function checkActive(node: BlockNode): void {
  if (node.active) return;
  const user = node.parents.find(({ parent }) => parent.parentNode?.active === true);
  if (user !== undefined) {
    throw new QmpError(
      `Inactive '${node.nodeName}' can't be a ${user.name} child of active ` +
        `'${user.parent.parentNode?.nodeName}'`,
    );
  }
  const unavailable = cumulativePermissions(node).perm & ~PERM_CONSISTENT_READ;
  if (unavailable === 0) return;
  throw new QmpError(`Permission '${permissionNames(unavailable)}' unavailable on inactive node`);
}

function checkConflicts(node: BlockNode): void {
  const all = cumulativePermissions(node);
  // Nobody needs what anybody withholds: no need to look at the pairs.
  if ((all.perm & ~all.shared) === 0) return;
  for (const holder of node.parents) {
    for (const user of node.parents) {
      const missing = user.perm & ~holder.sharedPerm;
      if (user !== holder && missing !== 0) throw conflict(node, missing, user, holder);
    }
  }
}

function conflict(
  node: BlockNode,
  missing: Permissions,
  user: BlockChild,
  holder: BlockChild,
): QmpError {
  const uses = (edge: BlockChild): string =>
    `${edge.parent.describe()} (uses node '${node.nodeName}' as '${edge.name}' child)`;
  return new QmpError(
    `Permission conflict on node '${node.nodeName}': permissions '${permissionNames(missing)}' are ` +
      `both required by ${uses(user)} and unshared by ${uses(holder)}.`,
  );
}

function checkWritable(node: BlockNode, perm: Permissions, wasReadOnly: boolean): void {
  if ((perm & WRITES) === 0) return;
  if (node.readOnly) {
    throw new QmpError(
      wasReadOnly
        ? 'Block node is read-only'
        : `Read-only block node '${node.nodeName}' cannot support read-write users`,
    );
  }
  // The last block could not be written without making the image longer.
  const { requestAlignment } = node.limits;
  if ((perm & PERM_RESIZE) === 0 && node.phase === 'open' && node.length % requestAlignment !== 0) {
    throw new QmpError(
      "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment",
    );
  }
}
