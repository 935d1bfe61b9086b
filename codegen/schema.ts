// Definitions to the checked schema: resolves names, then checks what needs more than one definition.

import { keepActive } from './conditions.ts';
import type {
  BranchDefinition,
  MemberDefinition,
  Definition as Source,
  TypeReference,
} from './definitions.ts';
import { SchemaError, unreachable } from './errors.ts';
import { readDefinition } from './expressions.ts';
import { type ParsedSchema, parseSchema } from './parser.ts';
import { describeMember } from './schema-words.ts';
import { checkSchema, type UncheckedSchema } from './semantics.ts';
import type { SourceInfo } from './source-info.ts';
import { describePlace } from './source-info.ts';
import {
  type AlternateType,
  type ArrayType,
  BUILTINS,
  type BuiltinName,
  type Command,
  type Definition,
  describeType,
  type EnumType,
  type Event,
  type Member,
  type Module,
  type ObjectType,
  type Schema,
  type Type,
  type Variant,
} from './types.ts';
import { checkExportedNames } from './visitor.ts';

export interface SchemaOptions {
  /** The symbols that `if` conditions see as defined. */
  readonly defined: ReadonlySet<string>;
  readonly readText?: (path: string) => string;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Reads, checks and links a schema and everything it includes. Throws SchemaError. */
export function loadSchema(file: string, { defined, readText }: SchemaOptions): Schema {
  const parsed = parseSchema(file, readText);
  const linker = new Linker();
  const sources = parsed.expressions.map(readDefinition);
  for (const source of sources) linker.declare(source);
  for (const source of sources) linker.link(source);
  const schema = linker.schema(parsed);
  checkSchema(schema);
  checkExportedNames(schema);
  return keepActive(schema, defined);
}

/** Two passes over the definitions: the first makes an empty shell for each, the second fills it. */
class Linker {
  readonly #types = new Map<string, Type>();
  readonly #entities = new Map<
    string,
    { readonly info: SourceInfo | undefined; readonly what: string }
  >();
  readonly #definitions: Definition[] = [];
  readonly #shells = new Map<Source, Definition>();
  readonly #discriminators = new Map<ObjectType, string>();
  readonly #emptyObject: ObjectType;

  constructor() {
    for (const [name, json] of Object.entries(BUILTINS)) {
      this.#types.set(name, { kind: 'builtin', name: name as BuiltinName, json });
      this.#entities.set(name, { info: undefined, what: `built-in type '${name}'` });
    }
    const nowhere = { file: '', line: 0 } as SourceInfo;
    this.#emptyObject = objectShell('q_empty', nowhere, 'empty');
    this.#types.set('q_empty', this.#emptyObject);
    this.#entities.set('QType', { info: undefined, what: "built-in type 'QType'" });
  }

  declare(source: Source): void {
    const { name, info } = source;
    const other = this.#entities.get(name);
    if (other !== undefined) {
      const before =
        other.info === undefined ? '' : `\n${describePlace(other.info)}: previous definition`;
      const what = other.info === undefined ? other.what : `'${name}'`;
      throw new SchemaError(info, `${what} is already defined${before}`);
    }
    this.#entities.set(name, { info, what: `${source.meta} '${name}'` });
    const shell = this.#shell(source);
    this.#shells.set(source, shell);
    this.#definitions.push(shell);
    if (shell.kind !== 'command' && shell.kind !== 'event') this.#types.set(name, shell);
  }

  link(source: Source): void {
    const shell = this.#shells.get(source);
    switch (source.meta) {
      case 'enum':
        return;
      case 'struct': {
        const type = shell as Mutable<ObjectType>;
        type.ownMembers = this.#members(source.members, type);
        if (source.base !== undefined) type.base = this.#base(source.base, source.info);
        return;
      }
      case 'union': {
        const type = shell as Mutable<ObjectType>;
        type.base =
          typeof source.base === 'string'
            ? this.#base(source.base, source.info)
            : this.#implicit(source, source.base, 'base');
        const cases = source.branches.map((branch) => this.#variant(branch));
        // The tag is looked up by the semantic checks, once the base's members are known to be sound.
        type.variants = { tag: undefined as never, cases };
        this.#discriminators.set(type, source.discriminator);
        return;
      }
      case 'alternate': {
        const type = shell as Mutable<AlternateType>;
        type.branches = source.branches.map((branch) => ({
          ...branch,
          type: this.#resolve(branch.type, branch.info, `branch '${branch.name}'`),
        }));
        return;
      }
      case 'command': {
        const command = shell as Mutable<Command>;
        command.argumentsType = this.#payload(source);
        if (source.returns !== undefined) {
          command.returns = this.#resolve(source.returns, source.info, "command's 'returns'");
        }
        return;
      }
      case 'event':
        (shell as Mutable<Event>).dataType = this.#payload(source);
    }
  }

  schema(parsed: ParsedSchema): UncheckedSchema {
    const byExpression = new Map(
      parsed.expressions.map((each, index) => [each, this.#definitions[index]]),
    );
    const modules: Module[] = parsed.modules.map(({ file, parts }) => ({
      file,
      parts: parts.flatMap((part): Module['parts'] => {
        if (part.kind === 'prose') return [part];
        const definition =
          part.kind === 'expression' ? byExpression.get(part.expression) : undefined;
        return definition === undefined ? [] : [definition];
      }),
    }));
    return {
      modules,
      definitions: this.#definitions,
      commands: this.#definitions.filter((each) => each.kind === 'command'),
      events: this.#definitions.filter((each) => each.kind === 'event'),
      types: this.#types,
      emptyObject: this.#emptyObject,
      discriminators: this.#discriminators,
    };
  }

  #shell(source: Source): Definition {
    const { name, info, condition, features, doc } = source;
    const common = { name, info, condition, features, doc };
    switch (source.meta) {
      case 'enum':
        return { kind: 'enum', ...common, values: source.values } satisfies EnumType;
      case 'struct':
      case 'union':
        return { ...objectShell(name, info, 'definition'), ...common, meta: source.meta };
      case 'alternate':
        return { kind: 'alternate', ...common, branches: [] };
      case 'command': {
        const { boxed, gen, successResponse, allowOob, allowPreconfig, coroutine } = source;
        const flags = { boxed, gen, successResponse, allowOob, allowPreconfig, coroutine };
        const types = { argumentsType: this.#emptyObject, returns: undefined };
        return { kind: 'command', ...common, ...flags, ...types };
      }
      case 'event':
        return { kind: 'event', ...common, boxed: source.boxed, dataType: this.#emptyObject };
      default:
        return unreachable(source);
    }
  }

  #base(name: string, info: SourceInfo): ObjectType {
    const type = this.#resolve({ name, array: false }, info, "'base'");
    if (type.kind === 'object' && type.meta === 'struct') return type;
    throw new SchemaError(info, `'base' must be a struct, ${describeType(type)} is not one`);
  }

  #payload(source: Extract<Source, { meta: 'command' | 'event' }>): ObjectType {
    const { data, info, meta } = source;
    if (data === undefined) return this.#emptyObject;
    if (typeof data !== 'string') return this.#implicit(source, data, 'arguments');
    const type = this.#resolve({ name: data, array: false }, info, `${meta}'s 'data'`);
    if (type.kind !== 'object') {
      throw new SchemaError(info, `${meta}'s 'data' cannot be ${describeType(type)}`);
    }
    if (!source.boxed && type.meta === 'union') {
      throw new SchemaError(
        info,
        `${meta}'s 'data' can be union type '${data}' only with 'boxed': true`,
      );
    }
    return type;
  }

  /** A type for members written in place, named as the reference's generator names it. */
  #implicit(
    source: Source,
    members: readonly MemberDefinition[],
    origin: 'arguments' | 'base',
  ): ObjectType {
    if (members.length === 0) return this.#emptyObject;
    const name = `q_obj_${source.name}-${origin === 'base' ? 'base' : 'arg'}`;
    const type: Mutable<ObjectType> = objectShell(name, source.info, origin);
    type.condition = source.condition;
    // Members written in place are documented in the comment of what they are written in.
    type.doc = source.doc;
    type.ownMembers = this.#members(members, type);
    this.#types.set(name, type);
    return type;
  }

  #members(members: readonly MemberDefinition[], owner: ObjectType): Member[] {
    return members.map(({ type, ...member }) => ({
      ...member,
      definedIn: owner,
      type: this.#resolve(type, member.info, describeMember(member.name, owner)),
    }));
  }

  #variant(branch: BranchDefinition): Variant {
    const { name, info, condition } = branch;
    const type = this.#resolve(branch.type, info, `branch '${name}'`);
    if (type.kind !== 'object' || type.meta === 'union') {
      throw new SchemaError(info, `branch '${name}' cannot be ${describeType(type)}`);
    }
    return { name, info, condition, type };
  }

  #resolve({ name, array }: TypeReference, info: SourceInfo, what: string): Type {
    const type = name.startsWith('q_') ? undefined : this.#types.get(name);
    if (type === undefined) throw new SchemaError(info, `${what} uses unknown type '${name}'`);
    if (!array) return type;
    const listName = `${name}List`;
    const known = this.#types.get(listName);
    if (known !== undefined) return known;
    const list: ArrayType = { kind: 'array', name: listName, element: type };
    this.#types.set(listName, list);
    return list;
  }
}

function objectShell(name: string, info: SourceInfo, origin: ObjectType['origin']): ObjectType {
  return {
    kind: 'object',
    meta: 'struct',
    name,
    info,
    origin,
    condition: undefined,
    features: [],
    doc: undefined,
    base: undefined,
    ownMembers: [],
    members: [],
    variants: undefined,
  };
}
