// `if` conditions: which parts of a schema exist in this build.

import type { Condition } from './definitions.ts';
import { SchemaError, unreachable } from './errors.ts';
import type { SourceInfo } from './source-info.ts';
import type { Definition, ObjectType, Schema, Type } from './types.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * What the reference's configuration has on Linux and this project supports. The names are the reference's, so that its
 * manual and ours can be read side by side.
 */
export const DEFINED_SYMBOLS: ReadonlySet<string> = new Set([
  'CONFIG_LINUX',
  'CONFIG_POSIX',
  'HAVE_HOST_BLOCK_DEVICE',
  'HAVE_IPPROTO_MPTCP',
]);

export function isActive(condition: Condition | undefined, defined: ReadonlySet<string>): boolean {
  switch (condition?.kind) {
    case undefined:
      return true;
    case 'symbol':
      return defined.has(condition.name);
    case 'not':
      return !isActive(condition.operand, defined);
    case 'all':
      return condition.operands.every((operand) => isActive(operand, defined));
    case 'any':
      return condition.operands.some((operand) => isActive(operand, defined));
    default:
      return unreachable(condition);
  }
}

/** Removes what is conditional on something undefined. Throws when what remains uses a type that went. */
export function keepActive(schema: Schema, defined: ReadonlySet<string>): Schema {
  const active = (each: { readonly condition: Condition | undefined }) =>
    isActive(each.condition, defined);
  const withActiveFeatures = <T extends { readonly features: Definition['features'] }>(
    each: T,
  ): T => {
    (each as Mutable<T>).features = each.features.filter(active);
    return each;
  };

  const prune = (definition: Definition) => {
    withActiveFeatures(definition);
    if (definition.kind === 'enum') {
      const type = definition as Mutable<typeof definition>;
      type.values = definition.values.filter(active);
      type.values.forEach(withActiveFeatures);
    } else if (definition.kind === 'alternate') {
      const type = definition as Mutable<typeof definition>;
      type.branches = definition.branches.filter(active);
    } else if (definition.kind === 'object') pruneObject(definition);
  };
  const pruneObject = (type: ObjectType) => {
    const mutable = type as Mutable<ObjectType>;
    mutable.ownMembers = type.ownMembers.filter(active);
    mutable.members = type.members.filter(active);
    mutable.members.forEach(withActiveFeatures);
    if (type.variants !== undefined) {
      mutable.variants = { ...type.variants, cases: type.variants.cases.filter(active) };
    }
  };

  const definitions = schema.definitions.filter(active);
  definitions.forEach(prune);
  for (const type of schema.types.values()) {
    if (type.kind === 'object' && type.origin !== 'definition') pruneObject(type);
  }
  const gone = new Set<unknown>(schema.definitions.filter((each) => !active(each)));
  for (const definition of definitions) {
    for (const { type, info } of usedTypes(definition)) {
      const inner = type.kind === 'array' ? type.element : type;
      if (gone.has(inner)) {
        throw new SchemaError(
          info,
          `'${inner.name}' is used here, but its 'if' condition is not met`,
        );
      }
    }
  }
  const types = [...schema.types].filter(
    ([, type]) => !gone.has(type.kind === 'array' ? type.element : type),
  );
  return {
    ...schema,
    definitions,
    types: new Map(types),
    commands: schema.commands.filter(active),
    events: schema.events.filter(active),
    modules: schema.modules.map(({ file, parts }) => ({
      file,
      parts: parts.filter((part) => !gone.has(part)),
    })),
  };
}

interface Use {
  readonly type: Type;
  readonly info: SourceInfo;
}

function usedTypes(definition: Definition): Use[] {
  switch (definition.kind) {
    case 'enum':
      return [];
    case 'alternate':
      return [...definition.branches];
    case 'object':
      return usedByObject(definition);
    case 'command': {
      const { argumentsType, returns, info } = definition;
      const uses = [{ type: argumentsType, info }, ...usedByObject(argumentsType)];
      return returns === undefined ? uses : [...uses, { type: returns, info }];
    }
    case 'event':
      return [
        { type: definition.dataType, info: definition.info },
        ...usedByObject(definition.dataType),
      ];
    default:
      return unreachable(definition);
  }
}

function usedByObject({ base, info, members, variants }: ObjectType): Use[] {
  const own = [...members, ...(variants?.cases ?? [])];
  return base === undefined ? own : [{ type: base, info }, ...own];
}
