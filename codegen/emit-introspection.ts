// The answer to query-qmp-schema. Type names are masked as numbers in the order of their first use, types that no command
// or event reaches are left out, all integers are 'int': what a client sees is the wire format, not the schema's text.

import type { FeatureDefinition } from './definitions.ts';
import { unreachable } from './errors.ts';
import type { Command, Event, Member, ObjectType, Schema, Type } from './types.ts';
import { definitionsByModule, GENERATED_NOTICE } from './visitor.ts';

/** An entry; the members beside these depend on the meta-type. */
export interface Entry {
  readonly name: string;
  readonly 'meta-type': string;
  readonly [member: string]: unknown;
}

/** The entries: commands and events in schema order, then the types in the order of first use. */
function introspect(schema: Schema): Entry[] {
  const emitter = new Introspector(schema);
  for (const definition of definitionsByModule(schema)) {
    if (definition.kind === 'command') emitter.command(definition);
    else if (definition.kind === 'event') emitter.event(definition);
  }
  return emitter.finish();
}

export function emitIntrospection(schema: Schema): string {
  const rows = introspect(schema).map((entry) => `  ${JSON.stringify(entry)},`);
  return `${GENERATED_NOTICE}
import type { SchemaInfo } from './types.ts';

/** The answer to query-qmp-schema. */
export const introspection: SchemaInfo[] = [
${rows.join('\n')}
];
`;
}

class Introspector {
  readonly #schema: Schema;
  readonly #entries: Entry[] = [];
  readonly #used: Type[] = [];
  readonly #masks = new Map<Type, string>();

  constructor(schema: Schema) {
    this.#schema = schema;
  }

  command({ name, argumentsType, returns, allowOob, features }: Command): void {
    this.#entries.push({
      name,
      'meta-type': 'command',
      'arg-type': this.#use(argumentsType),
      'ret-type': this.#use(returns ?? this.#schema.emptyObject),
      ...(allowOob ? { 'allow-oob': true } : {}),
      ...featuresOf(features),
    });
  }

  event({ name, dataType, features }: Event): void {
    this.#entries.push({
      name,
      'meta-type': 'event',
      'arg-type': this.#use(dataType),
      ...featuresOf(features),
    });
  }

  /** The types in use; describing one may add others. */
  finish(): Entry[] {
    for (let index = 0; index < this.#used.length; index += 1) {
      const type = this.#used[index];
      if (type !== undefined) this.#entries.push(this.#describe(type));
    }
    return this.#entries;
  }

  #use(type: Type): string {
    const plain = this.#plainInteger(type);
    if (!this.#used.includes(plain)) this.#used.push(plain);
    if (plain.kind === 'builtin') return plain.name;
    if (plain.kind === 'array') return `[${this.#use(plain.element)}]`;
    return this.#mask(plain);
  }

  #mask(type: Type): string {
    const known = this.#masks.get(type);
    if (known !== undefined) return known;
    const mask = String(this.#masks.size);
    this.#masks.set(type, mask);
    return mask;
  }

  /** Clients see one integer type, and one array of it. */
  #plainInteger(type: Type): Type {
    const int = this.#schema.types.get('int');
    if (int === undefined) return type;
    if (type.kind === 'builtin' && type.json === 'int') return int;
    if (type.kind === 'array' && type.element.kind === 'builtin' && type.element.json === 'int') {
      const list = this.#used.find((each) => each.kind === 'array' && each.element === int);
      return list ?? { kind: 'array', name: 'intList', element: int };
    }
    return type;
  }

  #describe(type: Type): Entry {
    switch (type.kind) {
      case 'builtin':
        return { name: type.name, 'meta-type': 'builtin', 'json-type': type.json };
      case 'array': {
        const element = this.#use(type.element);
        return { name: `[${element}]`, 'meta-type': 'array', 'element-type': element };
      }
      case 'enum':
        return {
          name: this.#mask(type),
          'meta-type': 'enum',
          members: type.values.map(({ name, features }) => ({ name, ...featuresOf(features) })),
          values: type.values.map(({ name }) => name),
          ...featuresOf(type.features),
        };
      case 'object':
        return this.#describeObject(type);
      case 'alternate':
        return {
          name: this.#mask(type),
          'meta-type': 'alternate',
          members: type.branches.map((branch) => ({ type: this.#use(branch.type) })),
          ...featuresOf(type.features),
        };
      default:
        return unreachable(type);
    }
  }

  #describeObject(type: ObjectType): Entry {
    const { members, variants, features } = type;
    return {
      name: this.#mask(type),
      'meta-type': 'object',
      members: members.map((member: Member) => ({
        name: member.name,
        type: this.#use(member.type),
        ...(member.optional ? { default: null } : {}),
        ...featuresOf(member.features),
      })),
      ...(variants === undefined
        ? {}
        : {
            tag: variants.tag.name,
            variants: variants.cases.map(({ name, type: variant }) => ({
              case: name,
              type: this.#use(variant),
            })),
          }),
      ...featuresOf(features),
    };
  }
}

function featuresOf(features: readonly FeatureDefinition[]): { readonly features?: string[] } {
  return features.length === 0 ? {} : { features: features.map((feature) => feature.name) };
}
