// Walks over the checked schema that more than one emitter needs.

import { SchemaError, unreachable } from './errors.ts';
import { camelCase } from './names.ts';
import type { Command, Definition, Event, Module, Schema, Type } from './types.ts';

/** The definitions module by module, as the reference's generator visits them: the order on the wire. */
export function definitionsByModule(schema: Schema): Definition[] {
  return schema.modules.flatMap(({ parts }: Module) =>
    parts.filter((part) => part.kind !== 'prose'),
  );
}

export function commandsInWireOrder(schema: Schema): Command[] {
  return definitionsByModule(schema).filter((definition) => definition.kind === 'command');
}

export function eventsInWireOrder(schema: Schema): Event[] {
  return definitionsByModule(schema).filter((definition) => definition.kind === 'event');
}

/** A type that generated code names. */
export type NamedType = Exclude<Type, { kind: 'builtin' | 'array' }>;

/** The name under which a type appears in generated TypeScript. */
export function exportedName(type: NamedType): string {
  if (type.kind !== 'object') return identifier(type.name);
  const { name, origin } = type;
  switch (origin) {
    case 'definition':
      return identifier(name);
    case 'empty':
      return 'NoArguments';
    case 'arguments': {
      const owner = ownerOf(name);
      return `${camelCase(owner)}${/[a-z]/.test(owner) ? 'Arguments' : 'Data'}`;
    }
    case 'base':
      return `${identifier(ownerOf(name))}Base`;
    default:
      return unreachable(origin);
  }
}

/** A vendor's `__org.example_x-Type` is OrgExampleXType. */
function identifier(name: string): string {
  return /^[A-Z][A-Za-z0-9]*$/.test(name) ? name : camelCase(name);
}

/** The definition in which the members of an implicit type are written. */
export function ownerOf(implicitName: string): string {
  return implicitName.replace(/^q_obj_(.*)-(?:arg|base)$/, '$1');
}

/** The object types and others that generated code names: definitions, arguments written in place, the empty object. */
export function namedTypes(schema: Schema): NamedType[] {
  const inPlace = [...schema.commands, ...schema.events]
    .map((each) => (each.kind === 'command' ? each.argumentsType : each.dataType))
    .filter((type) => type.origin === 'arguments');
  const defined = definitionsByModule(schema).filter(
    (each) => each.kind !== 'command' && each.kind !== 'event',
  );
  return [schema.emptyObject, ...defined, ...inPlace];
}

/** Refuses a schema in which two types would get one name: arguments written in place are named after their command. */
export function checkExportedNames(schema: Schema): void {
  const taken = new Map<string, string>();
  for (const type of namedTypes(schema)) {
    const name = exportedName(type);
    const other = taken.get(name);
    if (other !== undefined) {
      throw new SchemaError(type.info, `${other} and this would both be exported as '${name}'`);
    }
    const isDefinition = type.kind !== 'object' || type.origin === 'definition';
    taken.set(name, isDefinition ? `'${type.name}'` : `the members of '${ownerOf(type.name)}'`);
  }
}

/** A TypeScript or JavaScript string literal. */
export function quote(text: string): string {
  const escaped = text.replace(/\\/g, '\\\\').replace(/'/g, "\\'").replace(/\n/g, '\\n');
  return `'${escaped}'`;
}

/** A property name, quoted only where it must be. */
export function propertyKey(name: string): string {
  return /^[A-Za-z_$][A-Za-z0-9_$]*$/.test(name) ? name : quote(name);
}

export const GENERATED_NOTICE =
  '// Generated from the QAPI schema. Change qapi/*.json and run `make generate`.\n';
