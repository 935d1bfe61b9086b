// The types as data, for code that turns command-line strings into values by the schema.

import { unreachable } from './errors.ts';
import type { Member, Schema, Type } from './types.ts';
import { jsonKindOf } from './types.ts';
import {
  exportedName,
  GENERATED_NOTICE,
  type NamedType,
  namedTypes,
  propertyKey,
} from './visitor.ts';

export function emitTypeModel(schema: Schema): string {
  const arrays = [...schema.types.values()].filter((type) => type.kind === 'array');
  const builtins = [...schema.types.values()].filter((type) => type.kind === 'builtin');
  const entries = [
    ...builtins.map((type) => [type.name, { kind: 'builtin', name: type.name }] as const),
    ...arrays.map(
      (type) => [type.name, { kind: 'array', element: modelName(type.element) }] as const,
    ),
    ...namedTypes(schema).map((type) => [modelName(type), modelOf(type)] as const),
  ];
  const rows = entries.map(([name, model]) => `  ${propertyKey(name)}: ${JSON.stringify(model)},`);
  return `${GENERATED_NOTICE}
export type BuiltinTypeName =
  | 'str' | 'number' | 'int' | 'int8' | 'int16' | 'int32' | 'int64' | 'uint8' | 'uint16' | 'uint32' | 'uint64'
  | 'size' | 'bool' | 'any' | 'null';

export interface MemberModel {
  readonly name: string;
  /** A key of \`typeModel\`. */
  readonly type: string;
  readonly optional: boolean;
}

export type JsonKind = 'string' | 'number' | 'boolean' | 'null' | 'object' | 'array';

export type TypeModel =
  | { readonly kind: 'builtin'; readonly name: BuiltinTypeName }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  /** \`element\` is a key of \`typeModel\`. */
  | { readonly kind: 'array'; readonly element: string }
  /** Members in visiting order, the base's first. */
  | { readonly kind: 'struct'; readonly members: readonly MemberModel[] }
  /** \`members\` are those of every variant; \`variants\` maps a value of \`tag\` to the struct with the further ones. */
  | {
      readonly kind: 'union';
      readonly members: readonly MemberModel[];
      readonly tag: string;
      readonly variants: { readonly [value: string]: string };
    }
  /** By what the JSON value is. */
  | { readonly kind: 'alternate'; readonly branches: { readonly [K in JsonKind]?: string } };

/** Every type by name; arrays are under their element's name with 'List' added. */
export const typeModel: { readonly [name: string]: TypeModel } = {
${rows.join('\n')}
};
`;
}

function modelName(type: Type): string {
  return type.kind === 'builtin' || type.kind === 'array' ? type.name : exportedName(type);
}

function modelOf(type: NamedType) {
  switch (type.kind) {
    case 'enum':
      return { kind: 'enum', values: type.values.map((value) => value.name) };
    case 'alternate': {
      const branches = type.branches.map(({ type: branch }) => {
        const json = jsonKindOf(branch);
        return [json === 'int' ? 'number' : json, modelName(branch)] as const;
      });
      return { kind: 'alternate', branches: Object.fromEntries(branches) };
    }
    case 'object': {
      const members = type.members.map(memberModel);
      if (type.variants === undefined) return { kind: 'struct', members };
      const { tag, cases } = type.variants;
      const variants = cases.map(({ name, type: variant }) => [name, modelName(variant)] as const);
      return { kind: 'union', members, tag: tag.name, variants: Object.fromEntries(variants) };
    }
    default:
      return unreachable(type);
  }
}

function memberModel({ name, type, optional }: Member) {
  return { name, type: modelName(type), optional };
}
