// The object model as qom-list, qom-get and qom-set see it: a tree of named objects, with absolute paths (`/objects/s0`) and
// partial ones (`s0`, when that is unambiguous).

import { GlibStringSet } from '../base/glib-hash-table.ts';
import { QmpError } from '../qapi/errors.ts';
import type { JsonValue } from '../qapi/json-value.ts';
import type { ObjectRegistry } from './object-registry.ts';
import { qomProperties } from './object-types.ts';
import type { ObjectProperty, UserObject } from './user-object.ts';

export interface QomNode {
  /** `secret`, `container`, `chardev-socket`, ... */
  readonly type: string;
  /** Where it hangs: `/objects/s0`. */
  readonly path: string;
  readonly children: ReadonlyMap<string, QomNode>;
  /** The property's value; undefined when there is none of that name. Not for `type` and children. */
  get(property: string): JsonValue | undefined;
  /** Behind /objects, what can be set. */
  readonly object?: UserObject;
}

/** A character device, which is part of the object model too. */
export interface QomChardev {
  readonly id: string;
  /** `chardev-stdio` and so on. */
  readonly type: string;
  /** The property's value in terms of the schema. */
  get(property: string): unknown;
}

/** The tree as it is now. `chardevs` is undefined while there have been none. */
export function qomTree(
  objects: ObjectRegistry,
  chardevs: readonly QomChardev[] | undefined,
): QomNode {
  const containers = new Map<string, QomNode>();
  if (objects.exists) {
    const nodes = objects.ids().flatMap((id) => {
      const object = objects.find(id);
      return object === undefined ? [] : ([[id, userNode(object)]] as const);
    });
    containers.set('objects', container('/objects', new Map(nodes)));
  }
  if (chardevs !== undefined) {
    const byId = new Map(chardevs.map((chardev) => [chardev.id, chardev]));
    const nodes = [...new GlibStringSet(byId.keys())].reverse().flatMap((id) => {
      const chardev = byId.get(id);
      return chardev === undefined ? [] : ([[id, chardevNode(chardev)]] as const);
    });
    containers.set('chardevs', container('/chardevs', new Map(nodes)));
  }
  return container('/', containers);
}

/**
 * The object at `path`.
 *
 * @throws QmpError DeviceNotFound; with `ambiguity` also when a partial path fits more than one object
 */
export function resolveQomPath(
  root: QomNode,
  path: string,
  options: { ambiguity?: boolean } = {},
): QomNode {
  const parts = path === '' ? [] : path.split('/');
  const found =
    parts[0] === '' ? [descend(root, parts)] : allNodes(root).map((node) => descend(node, parts));
  const matches = found.filter((node) => node !== undefined);
  const [match] = matches;
  if (match !== undefined && matches.length === 1) return match;
  if (matches.length > 1 && options.ambiguity) throw new QmpError(`Path '${path}' is ambiguous`);
  throw new QmpError(`Device '${path}' not found`, { class: 'DeviceNotFound' });
}

/** The node's properties, children included, in the reference's order. */
export function listQomProperties(node: QomNode): { name: string; type: string }[] {
  return [
    ...qomProperties(node.type).map(({ name, type }) => ({ name, type })),
    ...[...node.children].map(([name, child]) => ({ name, type: `child<${child.type}>` })),
  ];
}

/** What qom-get answers. Throws QmpError for an unknown property. */
export function getQomProperty(node: QomNode, property: string): JsonValue {
  if (property === 'type') return node.type;
  const value = node.children.get(property)?.path ?? node.get(property);
  if (value === undefined) throw propertyNotFound(node, property);
  return value;
}

/** The property that qom-set may set, and whose. Throws QmpError when there is none or it is read-only. */
export function settableQomProperty(
  node: QomNode,
  property: string,
): { object: UserObject; row: ObjectProperty<unknown> } {
  const row = node.object?.type.properties.find(({ name }) => name === property);
  if (node.object !== undefined && row?.set !== undefined) {
    if (row.fixed !== undefined) throw new QmpError(row.fixed);
    return { object: node.object, row };
  }
  getQomProperty(node, property);
  throw new QmpError(`Property '${node.type}.${property}' is not writable`);
}

function propertyNotFound(node: QomNode, property: string): QmpError {
  return new QmpError(`Property '${node.type}.${property}' not found`);
}

function descend(from: QomNode, parts: readonly string[]): QomNode | undefined {
  let node: QomNode | undefined = from;
  for (const part of parts) if (part !== '') node = node?.children.get(part);
  return node;
}

function allNodes(root: QomNode): QomNode[] {
  return [root, ...[...root.children.values()].flatMap(allNodes)];
}

function container(path: string, children: ReadonlyMap<string, QomNode>): QomNode {
  return { type: 'container', path, children, get: () => undefined };
}

function userNode(object: UserObject): QomNode {
  const { id, type, state } = object;
  return {
    type: type.name,
    path: `/objects/${id}`,
    children: new Map(),
    get: (property) => type.properties.find(({ name }) => name === property)?.get(state),
    object,
  };
}

function chardevNode(chardev: QomChardev): QomNode {
  return {
    type: chardev.type,
    path: `/chardevs/${chardev.id}`,
    children: new Map(),
    get: (property) => chardev.get(property) as JsonValue | undefined,
  };
}
