// Parsed values to typed definitions: the checks that need no other definition. Shorthand is written out here, so that
// everything behind sees one form: members are {type, if, features}, enum values and features {name, if}.

import type {
  AlternateDefinition,
  BranchDefinition,
  CommandDefinition,
  Common,
  Condition,
  Definition,
  EnumDefinition,
  EventDefinition,
  FeatureDefinition,
  MemberDefinition,
  Meta,
  StructDefinition,
  TypeReference,
  UnionDefinition,
} from './definitions.ts';
import type { DocComment } from './doc-comment.ts';
import { SchemaError, unreachable } from './errors.ts';
import { checkCamelName, checkLowerName, checkUpperName, clashKey } from './names.ts';
import type { Expression } from './parser.ts';
import { inDefinition, type Node, type ObjectNode, type SourceInfo } from './source-info.ts';

/** Required and optional keys of each kind of definition. */
const KEYS = {
  enum: [['data'], ['if', 'features', 'prefix']],
  struct: [['data'], ['base', 'if', 'features']],
  union: [
    ['base', 'discriminator', 'data'],
    ['if', 'features'],
  ],
  alternate: [['data'], ['if', 'features']],
  command: [
    [],
    [
      'data',
      'returns',
      'boxed',
      'if',
      'features',
      'gen',
      'success-response',
      'allow-oob',
      'allow-preconfig',
      'coroutine',
    ],
  ],
  event: [[], ['data', 'boxed', 'if', 'features']],
} as const satisfies Record<Meta, readonly [readonly string[], readonly string[]]>;

const METAS = Object.keys(KEYS) as Meta[];

/** Flags that exist only to change a default, and the one value that may be written. */
const FLAGS = {
  gen: false,
  'success-response': false,
  boxed: true,
  'allow-oob': true,
  'allow-preconfig': true,
  coroutine: true,
} as const;

/** Checks one top-level expression. Throws SchemaError. */
export function readDefinition({ info, members, doc }: Expression): Definition {
  const metas = METAS.filter((meta) => members.has(meta));
  const [meta] = metas;
  if (meta === undefined || metas.length > 1) {
    throw new SchemaError(
      info,
      `an expression must have exactly one of the keys ${quoteAll(METAS)}`,
    );
  }
  const name = stringOf(members.get(meta), info, `'${meta}'`);
  const scope = new Scope(inDefinition(info, meta, name));
  checkDefinitionName(scope.info, meta, name);
  checkDoc(scope.info, meta, name, doc);
  const [required, optional] = KEYS[meta];
  scope.checkKeys(members, meta, [meta, ...required], optional, scope.info);

  checkFlags(members, scope);
  const partial = scope.definition(meta, name, members);
  const common = {
    name,
    info: scope.info,
    doc,
    condition: scope.condition(members, meta),
    features: scope.features(members),
  };
  return { ...common, ...partial };
}

function checkDefinitionName(info: SourceInfo, meta: Meta, name: string): void {
  const source = `this ${meta}`;
  if (meta === 'event') checkUpperName(name, info, source);
  else if (meta !== 'command') checkCamelName(name, info, source);
  else
    checkLowerName(name, info, source, { underscore: info.pragma.commandNameExceptions.has(name) });
}

function checkDoc(info: SourceInfo, meta: Meta, name: string, doc: DocComment | undefined): void {
  if (doc === undefined) {
    if (info.pragma.docRequired) throw new SchemaError(info, 'a documentation comment is required');
    return;
  }
  if (doc.symbol !== name) {
    throw new SchemaError(info, `the documentation comment is for '${doc.symbol}'`);
  }
  const returns = doc.sections.find((section) => section.tag === 'Returns');
  if (returns !== undefined && meta !== 'command') {
    throw new SchemaError(
      inDefinition(returns.info, meta, name),
      "only a command's documentation may have 'Returns:'",
    );
  }
}

function checkFlags(members: ObjectNode, scope: Scope): void {
  for (const [key, allowed] of Object.entries(FLAGS)) {
    const node = members.get(key);
    if (node !== undefined && node.value !== allowed) {
      scope.fail(node, `flag '${key}' may only be ${allowed}`);
    }
  }
  const coroutine = members.get('coroutine');
  if (members.has('allow-oob') && coroutine !== undefined) {
    scope.fail(coroutine, "flags 'allow-oob' and 'coroutine' exclude each other");
  }
}

type OwnPart =
  | Omit<EnumDefinition, keyof Common>
  | Omit<StructDefinition, keyof Common>
  | Omit<UnionDefinition, keyof Common>
  | Omit<AlternateDefinition, keyof Common>
  | Omit<CommandDefinition, keyof Common>
  | Omit<EventDefinition, keyof Common>;

/** Checks inside one definition; errors point at the line and name the definition. */
class Scope {
  readonly info: SourceInfo;

  constructor(info: SourceInfo) {
    this.info = info;
  }

  definition(meta: Meta, name: string, members: ObjectNode): OwnPart {
    const data = members.get('data');
    switch (meta) {
      case 'enum':
        return this.#enum(name, members, data);
      case 'struct': {
        const base = members.get('base');
        if (typeof base?.value === 'object') this.fail(base, "'base' must be a type name");
        return {
          meta,
          base: base === undefined ? undefined : this.typeName(base, "'base'"),
          members: this.members(data, "'data'", name),
        };
      }
      case 'union':
        return this.#union(name, members, data);
      case 'alternate':
        return { meta, branches: this.#alternateBranches(data) };
      case 'command': {
        const returns = members.get('returns');
        return {
          meta,
          ...this.#payload(name, members, data),
          returns: returns === undefined ? undefined : this.typeReference(returns, "'returns'"),
          gen: !members.has('gen'),
          successResponse: !members.has('success-response'),
          allowOob: members.has('allow-oob'),
          allowPreconfig: members.has('allow-preconfig'),
          coroutine: members.has('coroutine'),
        };
      }
      case 'event':
        return { meta, ...this.#payload(name, members, data) };
      default:
        return unreachable(meta);
    }
  }

  fail(at: { readonly info: SourceInfo }, text: string): never {
    throw new SchemaError(this.at(at), text);
  }

  at({ info }: { readonly info: SourceInfo }): SourceInfo {
    return { ...info, definition: this.info.definition ?? '' };
  }

  checkKeys(
    value: ObjectNode,
    source: string,
    required: readonly string[],
    optional: readonly string[],
    info: SourceInfo,
  ): void {
    const missing = required.filter((key) => !value.has(key));
    if (missing.length > 0) {
      this.fail({ info }, `${source} misses ${keys(missing)}`);
    }
    const allowed = [...required, ...optional];
    const unknown = [...value.keys()].filter((key) => !allowed.includes(key));
    if (unknown.length > 0) {
      const at = value.get(unknown[0] ?? '') ?? { info };
      this.fail(
        at,
        `${source} has unknown ${keys(unknown)}\nValid keys are ${quoteAll(allowed.sort())}.`,
      );
    }
  }

  condition(members: ObjectNode, source: string): Condition | undefined {
    const node = members.get('if');
    return node === undefined ? undefined : this.#condition(node, source);
  }

  #condition(node: Node, source: string): Condition {
    const { value } = node;
    if (typeof value === 'string') {
      if (!/^[A-Z][A-Z0-9_]*$/.test(value)) {
        this.fail(node, `'if' condition '${value}' of ${source} is not a valid symbol`);
      }
      return { kind: 'symbol', name: value };
    }
    if (!(value instanceof Map)) {
      this.fail(node, `'if' condition of ${source} must be a string or an object`);
    }
    const operators: ObjectNode = value;
    this.checkKeys(operators, `'if' condition of ${source}`, [], ['all', 'any', 'not'], node.info);
    const [entry, extra] = [...operators];
    if (entry === undefined || extra !== undefined) {
      this.fail(node, `'if' condition of ${source} must have exactly one key`);
    }
    const [kind, operand] = entry;
    if (kind === 'not') return { kind, operand: this.#condition(operand, source) };
    if (!Array.isArray(operand.value)) {
      this.fail(operand, `'${kind}' condition of ${source} must be an array`);
    }
    if (operand.value.length === 0) {
      this.fail(operand, `'${kind}' condition of ${source} must not be empty`);
    }
    const operands = operand.value.map((each: Node) => this.#condition(each, source));
    return { kind: kind === 'all' ? 'all' : 'any', operands };
  }

  features(members: ObjectNode): readonly FeatureDefinition[] {
    const node = members.get('features');
    if (node === undefined) return [];
    if (!Array.isArray(node.value)) this.fail(node, "'features' must be an array");
    const source = "'features' member";
    return node.value.map((each: Node) => {
      const { name, members: inner } = this.#named(each, source, []);
      const named = `${source} '${name}'`;
      checkLowerName(name, this.at(each), named);
      return { name, info: this.at(each), condition: this.condition(inner, named) };
    });
  }

  typeName(node: Node, source: string): string {
    if (Array.isArray(node.value)) this.fail(node, `${source} cannot be an array`);
    if (typeof node.value !== 'string') this.fail(node, `${source} must be a type name`);
    return node.value;
  }

  typeReference(node: Node, source: string): TypeReference {
    if (!Array.isArray(node.value)) return { name: this.typeName(node, source), array: false };
    const [element, extra] = node.value;
    if (typeof element?.value !== 'string' || extra !== undefined) {
      this.fail(node, `${source}: an array type holds exactly one type name`);
    }
    return { name: element.value, array: true };
  }

  members(node: Node | undefined, source: string, owner: string): readonly MemberDefinition[] {
    if (node === undefined) return [];
    if (!(node.value instanceof Map)) {
      this.fail(node, `${source} must be an object`);
    }
    const lenient = this.info.pragma.memberNameExceptions.has(owner);
    return [...(node.value as ObjectNode)].map(([key, member]) => {
      const optional = key.startsWith('*');
      const name = optional ? key.slice(1) : key;
      const named = `${source} member '${name}'`;
      checkLowerName(name, this.at(member), named, { upperCase: lenient, underscore: lenient });
      if (clashKey(name) === 'u' || clashKey(name).startsWith('has_')) {
        this.fail(member, `${named} uses a reserved name`);
      }
      const inner = this.#typed(member, named, ['if', 'features']);
      const type = inner.get('type');
      return {
        name,
        optional,
        info: this.at(member),
        condition: this.condition(inner, named),
        features: this.features(inner),
        type: this.typeReference(type ?? member, named),
      };
    });
  }

  #enum(name: string, members: ObjectNode, data: Node | undefined): OwnPart {
    const prefix = members.get('prefix');
    if (!Array.isArray(data?.value)) this.fail(data ?? this, "'data' must be an array");
    if (prefix !== undefined && typeof prefix.value !== 'string') {
      this.fail(prefix, "'prefix' must be a string");
    }
    const lenient = this.info.pragma.memberNameExceptions.has(name);
    const values = data.value.map((each: Node) => {
      const { name: value, members: inner } = this.#named(each, "'data' member", ['features']);
      const named = `'data' member '${value}'`;
      // A value may start with a digit.
      checkLowerName(/^\d/.test(value) ? `d${value}` : value, this.at(each), named, {
        upperCase: lenient,
        underscore: lenient,
      });
      return {
        name: value,
        info: this.at(each),
        condition: this.condition(inner, named),
        features: this.features(inner),
      };
    });
    return { meta: 'enum', prefix: prefix?.value as string | undefined, values };
  }

  #union(name: string, members: ObjectNode, data: Node | undefined): OwnPart {
    const base = members.get('base') ?? this;
    const discriminator = members.get('discriminator');
    const inline = 'value' in base && typeof base.value === 'object' && !Array.isArray(base.value);
    const baseMembers = inline ? this.members(base, "'base'", name) : undefined;
    const baseType = baseMembers ?? this.typeName(base as Node, "'base'");
    const tag = stringOf(discriminator, this.info, "'discriminator'");
    if (!(data?.value instanceof Map)) this.fail(data ?? this, "'data' must be an object");
    const branches = [...(data.value as ObjectNode)].map(([key, node]) => {
      const named = `'data' member '${key}'`;
      const inner = this.#typed(node, named, ['if']);
      const type = this.typeName(inner.get('type') ?? node, named);
      const condition = this.condition(inner, named);
      return { name: key, info: this.at(node), condition, type: { name: type, array: false } };
    });
    return { meta: 'union', base: baseType, discriminator: tag, branches };
  }

  #alternateBranches(data: Node | undefined): readonly BranchDefinition[] {
    if (!(data?.value instanceof Map)) this.fail(data ?? this, "'data' must be an object");
    const branches: ObjectNode = data.value;
    if (branches.size === 0) this.fail(data, "'data' must not be empty");
    return [...branches].map(([name, node]) => {
      const named = `'data' member '${name}'`;
      checkLowerName(name, this.at(node), named);
      const inner = this.#typed(node, named, ['if']);
      return {
        name,
        info: this.at(node),
        condition: this.condition(inner, named),
        type: this.typeReference(inner.get('type') ?? node, named),
      };
    });
  }

  #payload(name: string, members: ObjectNode, data: Node | undefined) {
    const boxed = members.has('boxed');
    if (boxed && data === undefined) {
      this.fail(members.get('boxed') ?? this, "'boxed': true requires 'data'");
    }
    if (data === undefined) return { boxed, data: undefined };
    const inline = typeof data.value === 'object' && !Array.isArray(data.value);
    if (inline && boxed) this.fail(data, "'data' must be a type name when 'boxed' is true");
    return {
      boxed,
      data: inline ? this.members(data, "'data'", name) : this.typeName(data, "'data'"),
    };
  }

  /** A member's `{ 'type': ..., ... }`, also when written as the type alone. */
  #typed(node: Node, source: string, optional: readonly string[]): ObjectNode {
    if (!(node.value instanceof Map)) return new Map([['type', node]]);
    this.checkKeys(node.value, source, ['type'], optional, node.info);
    return node.value;
  }

  /** A feature's or value's `{ 'name': ..., ... }`, also when written as the name alone. */
  #named(node: Node, source: string, optional: readonly string[]) {
    const members: ObjectNode = node.value instanceof Map ? node.value : new Map([['name', node]]);
    this.checkKeys(members, source, ['name'], ['if', ...optional], node.info);
    return { name: stringOf(members.get('name'), this.at(node), source), members };
  }
}

function stringOf(node: Node | undefined, info: SourceInfo, source: string): string {
  if (typeof node?.value === 'string') return node.value;
  throw new SchemaError(
    { ...info, line: node?.info.line ?? info.line },
    `${source} must be a string`,
  );
}

function keys(names: readonly string[]): string {
  return `key${names.length > 1 ? 's' : ''} ${quoteAll(names)}`;
}

function quoteAll(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ');
}
