// qom.json: user-creatable objects and the object model.

import { qomAncestry, qomProperties, qomTypes } from '../../object/object-types.ts';
import {
  getQomProperty,
  listQomProperties,
  type QomNode,
  resolveQomPath,
  settableQomProperty,
} from '../../object/qom-tree.ts';
import type { UserObject } from '../../object/user-object.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import type { ObjectTypeInfo } from '../../qapi/generated/types.ts';
import { validationError } from '../../qapi/validation-error.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const qomHandlers = {
  'object-add': async (options, { objects }) => {
    await objects.add(options);
  },
  'object-del': ({ id }, { objects }) => objects.remove(id),
  'qom-list': ({ path }, daemon) =>
    listQomProperties(resolveQomPath(daemon.objectModel(), path, { ambiguity: true })),
  'qom-get': ({ path, property }, daemon) => getQomProperty(nodeAt(daemon, path), property),
  'qom-set': async ({ path, property, value }, daemon) => {
    const { object, row } = settableQomProperty(nodeAt(daemon, path), property);
    row.set?.(object.state, await checkedValue(object, property, value));
  },
  'qom-list-types': ({ implements: ancestor, abstract = false }) =>
    Object.keys(qomTypes)
      .filter((name) => ancestor === undefined || isA(name, ancestor))
      .filter((name) => abstract || qomTypes[name]?.abstract === undefined)
      .map(typeInfo),
  'qom-list-properties': ({ typename }) => {
    if (!Object.hasOwn(qomTypes, typename)) {
      throw new QmpError(`Class '${typename}' not found`, { class: 'DeviceNotFound' });
    }
    if (!isA(typename, 'object')) {
      throw new QmpError(`Parameter 'typename' expects a QOM type`);
    }
    return qomProperties(typename).map(({ name, type }) => ({ name, type }));
  },
} satisfies Partial<CommandHandlers<DaemonServices>>;

function nodeAt(daemon: DaemonServices, path: string): QomNode {
  return resolveQomPath(daemon.objectModel(), path);
}

function isA(type: string, ancestor: string): boolean {
  if (ancestor === 'user-creatable') {
    return type === ancestor || qomTypes[type]?.userCreatable === true;
  }
  return qomAncestry(type).includes(ancestor);
}

function typeInfo(name: string): ObjectTypeInfo {
  const { abstract, parent } = qomTypes[name] ?? {};
  return {
    name,
    ...(abstract === undefined ? {} : { abstract }),
    ...(parent === undefined ? {} : { parent }),
  };
}

/** Checks a property's new value as the same member of object-add would be. */
async function checkedValue(
  object: UserObject,
  property: string,
  value: unknown,
): Promise<unknown> {
  const { validators } = await import('../../qapi/generated/validators.js');
  const options = Object.create(null) as Record<string, unknown>;
  options['qom-type'] = object.type.name;
  options['id'] = object.id;
  // As it is now, so that nothing required is missing.
  for (const row of object.type.properties) {
    if (row.set !== undefined) options[row.name] = row.get(object.state);
  }
  options[property] = value;
  const validate = validators.ObjectOptions;
  if (!validate(options)) throw validationError(validate.errors, options);
  return value;
}
