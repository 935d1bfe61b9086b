// The schema as JSON Schema: one definition per QAPI type, standard keywords only. Documentation becomes `description`.

import { docText, plain } from './doc-text.ts';
import { unreachable } from './errors.ts';
import type { Member, ObjectType, Schema, Type } from './types.ts';
import { exportedName, type NamedType, namedTypes, ownerOf } from './visitor.ts';

export interface JsonSchema {
  readonly $ref?: string;
  readonly type?: 'string' | 'number' | 'integer' | 'boolean' | 'null' | 'object' | 'array';
  readonly description?: string;
  readonly deprecated?: boolean;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
  /** json-schema-to-typescript's own: the type as text. */
  readonly tsType?: 'unknown';
}

export interface JsonSchemaDocument extends JsonSchema {
  readonly $schema: string;
  readonly definitions: Readonly<Record<string, JsonSchema>>;
}

/** Definitions by exported name. */
export function emitJsonSchema(schema: Schema): JsonSchemaDocument {
  const definitions = namedTypes(schema).map(
    (type) => [exportedName(type), definitionOf(type)] as const,
  );
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    definitions: Object.fromEntries(definitions),
  };
}

function definitionOf(type: NamedType): JsonSchema {
  const described = { description: textOf(type) };
  switch (type.kind) {
    case 'enum':
      return { ...described, type: 'string', enum: type.values.map((value) => value.name) };
    case 'alternate':
      return { ...described, anyOf: type.branches.map((branch) => referenceTo(branch.type)) };
    case 'object':
      return { ...described, ...objectSchema(type) };
    default:
      return unreachable(type);
  }
}

function textOf(type: NamedType): string {
  if (type.kind !== 'object') return docText(type.doc, `The type ${type.name}.`);
  switch (type.origin) {
    case 'definition':
      return docText(type.doc, `The type ${type.name}.`);
    case 'arguments':
      return `What \`${ownerOf(type.name)}\` takes or carries.`;
    case 'base':
    case 'empty':
      return 'Nothing.';
    default:
      return unreachable(type.origin);
  }
}

/** A union becomes one closed object for each value of its tag, so that the tag narrows the type. */
function objectSchema(type: ObjectType): JsonSchema {
  const { variants } = type;
  if (variants === undefined) return closedObject(type.members);
  const anyOf = variants.cases.map(({ name, type: variant }) =>
    closedObject([...type.members, ...variant.members], { tag: variants.tag, value: name }),
  );
  return { anyOf };
}

function closedObject(
  members: readonly Member[],
  tag?: { readonly tag: Member; readonly value: string },
): JsonSchema {
  const properties = members.map((member) => {
    const type = member === tag?.tag ? { const: tag.value } : referenceTo(member.type);
    return [member.name, { ...describeMember(member), ...besideOthers(type) }] as const;
  });
  return {
    type: 'object',
    properties: Object.fromEntries(properties),
    required: members.filter((member) => !member.optional).map((member) => member.name),
    additionalProperties: false,
  };
}

/** In this version of JSON Schema whatever stands beside `$ref` is ignored, or makes the compiler copy what it points to. */
function besideOthers(schema: JsonSchema): JsonSchema {
  return schema.$ref === undefined ? schema : { allOf: [schema] };
}

function describeMember(member: Member): JsonSchema {
  const text = member.definedIn.doc?.members.get(member.name)?.text;
  const deprecated = member.features.some((feature) => feature.name === 'deprecated');
  return {
    ...(text === undefined ? {} : { description: plain(text) }),
    ...(deprecated ? { deprecated } : {}),
  };
}

function referenceTo(type: Type): JsonSchema {
  switch (type.kind) {
    case 'array':
      return { type: 'array', items: referenceTo(type.element) };
    case 'enum':
    case 'alternate':
    case 'object':
      return { $ref: `#/definitions/${exportedName(type)}` };
    case 'builtin':
      return builtinSchema(type.json);
    default:
      return unreachable(type);
  }
}

function builtinSchema(json: Extract<Type, { kind: 'builtin' }>['json']): JsonSchema {
  // A description beside an empty schema would make the compiler think of an object.
  if (json === 'value') return { tsType: 'unknown' };
  return { type: json === 'int' ? 'integer' : json };
}
