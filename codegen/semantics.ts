// The checks that need the linked schema: clashes, bases that contain themselves, tags, alternates that cannot be told
// apart, what commands may return, documentation that does not fit. Fills in what follows from them: flattened members and tags.

import type { FeatureDefinition } from './definitions.ts';
import { checkDocumentation } from './documentation.ts';
import { SchemaError } from './errors.ts';
import { clashKey } from './names.ts';
import { describeMember } from './schema-words.ts';
import type { SourceInfo } from './source-info.ts';
import {
  type AlternateType,
  type Command,
  type Definition,
  describeType,
  type EnumType,
  jsonKindOf,
  type Member,
  type ObjectType,
  type Schema,
  type Type,
  type Variant,
} from './types.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface UncheckedSchema extends Schema {
  readonly discriminators: ReadonlyMap<ObjectType, string>;
}

/** What a name stands for, to say what it collides with. */
interface Taken {
  readonly name: string;
  readonly what: string;
}

/** Checks every definition, in order. Throws SchemaError. */
export function checkSchema(schema: UncheckedSchema): void {
  const checker = new Checker(schema);
  for (const definition of schema.definitions) checker.check(definition);
}

class Checker {
  readonly #schema: UncheckedSchema;
  readonly #done = new Set<ObjectType>();
  readonly #underway = new Set<ObjectType>();

  constructor(schema: UncheckedSchema) {
    this.#schema = schema;
  }

  check(definition: Definition): void {
    checkFeatures(definition.features, definition.info);
    switch (definition.kind) {
      case 'enum':
        rejectSpecialFeatures(definition);
        checkEnum(definition);
        break;
      case 'object':
        rejectSpecialFeatures(definition);
        this.#object(definition, definition.info);
        break;
      case 'alternate':
        rejectSpecialFeatures(definition);
        checkAlternate(definition);
        break;
      case 'command':
        this.#object(definition.argumentsType, definition.info);
        checkReturns(definition);
        break;
      case 'event':
        this.#object(definition.dataType, definition.info);
        break;
    }
    checkDocumentation(definition);
  }

  /** Flattens the members and finds the tag; each type once. */
  #object(type: ObjectType, from: SourceInfo): void {
    if (this.#done.has(type)) return;
    if (this.#underway.has(type)) throw new SchemaError(from, `'${type.name}' contains itself`);
    this.#underway.add(type);
    if (type.base !== undefined) this.#object(type.base, type.info);

    const seen = new Map<string, Taken>();
    const members = [...(type.base?.members ?? []), ...type.ownMembers];
    for (const member of members) {
      claim(
        seen,
        member.name,
        describeFor(member, type),
        member.definedIn === type ? member.info : type.info,
      );
      if (member.definedIn === type) checkFeatures(member.features, member.info);
    }
    for (const member of type.base?.origin === 'base' ? type.base.ownMembers : []) {
      checkFeatures(member.features, member.info);
    }
    (type as Mutable<ObjectType>).members = members;
    if (type.variants !== undefined) this.#variants(type, seen);
    this.#done.add(type);
  }

  #variants(type: ObjectType, seen: ReadonlyMap<string, Taken>): void {
    const tagName = this.#schema.discriminators.get(type) ?? '';
    const tag = type.members.find((member) => member.name === tagName);
    if (tag === undefined) {
      throw new SchemaError(type.info, `discriminator '${tagName}' is not a member of 'base'`);
    }
    const described = `discriminator '${tagName}'`;
    if (tag.type.kind !== 'enum') {
      throw new SchemaError(type.info, `${described} must be of an enum type`);
    }
    if (tag.optional) throw new SchemaError(type.info, `${described} must not be optional`);
    if (tag.condition !== undefined) {
      throw new SchemaError(type.info, `${described} must not be conditional`);
    }
    const { values } = tag.type;
    const written = type.variants?.cases ?? [];
    for (const branch of written) {
      if (!values.some((value) => value.name === branch.name)) {
        throw new SchemaError(
          branch.info,
          `branch '${branch.name}' is not a value of ${describeType(tag.type)}`,
        );
      }
      this.#object(branch.type, branch.info);
      for (const member of branch.type.members) {
        claim(
          new Map(seen),
          member.name,
          `${describeFor(member, type)} of branch '${branch.name}'`,
          branch.info,
        );
      }
    }
    const silent = values
      .filter((value) => !written.some((branch) => branch.name === value.name))
      .map(
        ({ name, condition }): Variant => ({
          name,
          condition,
          info: type.info,
          type: this.#schema.emptyObject,
        }),
      );
    const cases = [...written, ...silent];
    if (cases.length === 0) throw new SchemaError(type.info, 'union has no branches');
    (type as Mutable<ObjectType>).variants = { tag, cases };
  }
}

function describeFor(member: Member, type: ObjectType): string {
  const own = member.definedIn === type || member.definedIn.origin !== 'definition';
  const described = describeMember(member.name, member.definedIn);
  return own ? described : `${described} of type '${member.definedIn.name}'`;
}

function claim(seen: Map<string, Taken>, name: string, what: string, info: SourceInfo): void {
  const key = clashKey(name);
  const other = seen.get(key);
  if (other !== undefined) throw new SchemaError(info, `${what} collides with ${other.what}`);
  seen.set(key, { name, what });
}

function checkFeatures(features: readonly FeatureDefinition[], info: SourceInfo): void {
  const seen = new Map<string, Taken>();
  for (const { name } of features) claim(seen, name, `feature '${name}'`, info);
}

/** 'deprecated' and 'unstable' are about uses: a type has none of its own on the wire. */
function rejectSpecialFeatures({ features }: EnumType | ObjectType | AlternateType): void {
  for (const { name, info } of features) {
    if (name === 'deprecated' || name === 'unstable') {
      throw new SchemaError(info, `feature '${name}' does not apply to types`);
    }
  }
}

function checkEnum(type: EnumType): void {
  const seen = new Map<string, Taken>();
  for (const value of type.values) {
    claim(seen, value.name, `value '${value.name}'`, value.info);
    checkFeatures(value.features, value.info);
  }
}

function checkReturns({ name, info, returns }: Command): void {
  if (returns === undefined || info.pragma.commandReturnsExceptions.has(name)) return;
  const inner = returns.kind === 'array' ? returns.element : returns;
  if (inner.kind !== 'object') {
    throw new SchemaError(info, `command's 'returns' cannot be ${describeType(returns)}`);
  }
}

/** The branches must differ in what their JSON begins with, also on a command line, where every scalar is a string. */
function checkAlternate(type: AlternateType): void {
  const names = new Map<string, Taken>();
  const kinds = new Map<string, string>();
  for (const branch of type.branches) {
    const described = `branch '${branch.name}'`;
    claim(names, branch.name, described, branch.info);
    for (const kind of wireKinds(branch.type)) {
      if (kind === 'value') {
        throw new SchemaError(branch.info, `${described} cannot be ${describeType(branch.type)}`);
      }
      const other = kinds.get(kind);
      if (other !== undefined) {
        throw new SchemaError(branch.info, `${described} cannot be told from '${other}'`);
      }
      kinds.set(kind, branch.name);
    }
  }
}

function wireKinds(type: Type): ReadonlySet<string> {
  const kind = jsonKindOf(type);
  const kinds = new Set<string>([kind === 'int' ? 'number' : kind]);
  if (type.kind === 'enum') {
    if (type.values.some(({ name }) => name === 'on' || name === 'off')) kinds.add('boolean');
    if (type.values.some(({ name }) => /^[-+0-9.]/.test(name))) kinds.add('number');
  } else if (kind === 'string') {
    kinds.add('boolean').add('number');
  }
  return kinds;
}
