// The checked schema: what the emitters see. Every name is resolved; conditions have been applied.

import type { Condition, FeatureDefinition } from './definitions.ts';
import type { DocComment } from './doc-comment.ts';
import { unreachable } from './errors.ts';
import type { SourceInfo } from './source-info.ts';

export type JsonKind =
  | 'string'
  | 'number'
  | 'int'
  | 'boolean'
  | 'null'
  | 'object'
  | 'array'
  | 'value';

export interface BuiltinType {
  readonly kind: 'builtin';
  readonly name: BuiltinName;
  readonly json: JsonKind;
}

export const BUILTINS = {
  str: 'string',
  number: 'number',
  int: 'int',
  int8: 'int',
  int16: 'int',
  int32: 'int',
  int64: 'int',
  uint8: 'int',
  uint16: 'int',
  uint32: 'int',
  uint64: 'int',
  size: 'int',
  bool: 'boolean',
  any: 'value',
  null: 'null',
} as const satisfies Record<string, JsonKind>;
export type BuiltinName = keyof typeof BUILTINS;

interface Named {
  readonly name: string;
  readonly info: SourceInfo;
  readonly condition: Condition | undefined;
  readonly features: readonly FeatureDefinition[];
}

interface Documented extends Named {
  readonly doc: DocComment | undefined;
}

export interface EnumType extends Documented {
  readonly kind: 'enum';
  readonly values: readonly EnumValue[];
}

export type EnumValue = Named;

export interface ArrayType {
  readonly kind: 'array';
  /** As the reference's generator names it: the element's name and 'List'. */
  readonly name: string;
  readonly element: Type;
}

/** A struct, a union, or the members written in place in a command, an event or a union's base. */
export interface ObjectType extends Documented {
  readonly kind: 'object';
  readonly meta: 'struct' | 'union';
  readonly origin: 'definition' | 'arguments' | 'base' | 'empty';
  readonly base: ObjectType | undefined;
  readonly ownMembers: readonly Member[];
  /** The base's members first, then the own ones; what the variants add is not here. */
  readonly members: readonly Member[];
  readonly variants: Variants | undefined;
}

export interface Member extends Named {
  readonly type: Type;
  readonly optional: boolean;
  /** The type that declares the member. */
  readonly definedIn: ObjectType;
}

export interface Variants {
  readonly tag: Member;
  /** One for each value of the tag: those of the schema in its order, then the values that add nothing. */
  readonly cases: readonly Variant[];
}

export interface Variant {
  readonly name: string;
  readonly info: SourceInfo;
  readonly condition: Condition | undefined;
  readonly type: ObjectType;
}

export interface AlternateType extends Documented {
  readonly kind: 'alternate';
  readonly branches: readonly Branch[];
}

export interface Branch {
  readonly name: string;
  readonly info: SourceInfo;
  readonly condition: Condition | undefined;
  readonly type: Type;
}

export type Type = BuiltinType | EnumType | ArrayType | ObjectType | AlternateType;

export interface Command extends Documented {
  readonly kind: 'command';
  /** `emptyObject` for a command without arguments. */
  readonly argumentsType: ObjectType;
  readonly returns: Type | undefined;
  readonly boxed: boolean;
  readonly gen: boolean;
  readonly successResponse: boolean;
  readonly allowOob: boolean;
  readonly allowPreconfig: boolean;
  readonly coroutine: boolean;
}

export interface Event extends Documented {
  readonly kind: 'event';
  readonly dataType: ObjectType;
  readonly boxed: boolean;
}

export type Definition = EnumType | ObjectType | AlternateType | Command | Event;

export type Prose = { readonly kind: 'prose'; readonly doc: DocComment };

export interface Module {
  readonly file: string;
  /** What the file holds, in order. */
  readonly parts: readonly (Definition | Prose)[];
}

export interface Schema {
  readonly modules: readonly Module[];
  /** All definitions in reading order, an include's where the include stands. */
  readonly definitions: readonly Definition[];
  readonly commands: readonly Command[];
  readonly events: readonly Event[];
  /** Types by their schema name: built-in, defined, arrays that are used, and those written in place. */
  readonly types: ReadonlyMap<string, Type>;
  readonly emptyObject: ObjectType;
}

/** `struct 'Foo'`, `array of 'Foo'`: for messages. */
export function describeType(type: Type): string {
  switch (type.kind) {
    case 'builtin':
      return `built-in type '${type.name}'`;
    case 'array':
      return `array type ['${type.element.name}']`;
    case 'object':
      return `${type.meta} type '${type.name}'`;
    case 'enum':
    case 'alternate':
      return `${type.kind} type '${type.name}'`;
    default:
      return unreachable(type);
  }
}

/** How a value of the type looks in JSON. */
export function jsonKindOf(type: Type): JsonKind {
  switch (type.kind) {
    case 'builtin':
      return type.json;
    case 'enum':
      return 'string';
    case 'array':
      return 'array';
    case 'object':
      return 'object';
    case 'alternate':
      return 'value';
    default:
      return unreachable(type);
  }
}
