// Strings of a keyval tree to values of a QAPI type, null among them where JSON is read so: walks the type as the reference's visitor does (base members, own
// members, the variant's, then what is left over), so that the first error is the one the reference reports.

import { GlibStringSet } from '../base/glib-hash-table.ts';
import { parseNumberText, parseSizeText, parseUnsignedText } from '../base/number-text.ts';
import { QmpError } from './errors.ts';
import type { BuiltinTypeName, TypeModel } from './generated/type-model.ts';
import { membersInOrder } from './member-order.ts';

export type KeyvalValue = string | null | KeyvalObject | readonly KeyvalValue[];
export interface KeyvalObject {
  [key: string]: KeyvalValue;
}

export type TypeModels = { readonly [name: string]: TypeModel };

/**
 * The value of type `typeName` that `values` spells; `name`: what it is a member as, if it is one. Throws QmpError with the
 * reference's texts.
 */
export function coerceKeyval(
  values: KeyvalValue,
  typeName: string,
  types: TypeModels,
  name?: string,
): unknown {
  return visit(values, { path: name ?? '', leaf: name, types }, typeName);
}

/** `path` is the full dotted name for messages, `leaf` the member's own; a list element has none. */
interface Place {
  readonly path: string;
  readonly leaf: string | undefined;
  readonly types: TypeModels;
}

/** What `on` and `off` may be called. */
const TRUE_WORDS = new Set(['on', 'yes', 'true', 'y']);
const FALSE_WORDS = new Set(['off', 'no', 'false', 'n']);

/** Integer types of a limited width: smallest and largest value, and what the message calls them. */
const NARROW = {
  int8: [-(2n ** 7n), 2n ** 7n - 1n, 'int8_t'],
  int16: [-(2n ** 15n), 2n ** 15n - 1n, 'int16_t'],
  int32: [-(2n ** 31n), 2n ** 31n - 1n, 'int32_t'],
  uint8: [0n, 2n ** 8n - 1n, 'uint8_t'],
  uint16: [0n, 2n ** 16n - 1n, 'uint16_t'],
  uint32: [0n, 2n ** 32n - 1n, 'uint32_t'],
} as const;

function visit(value: KeyvalValue, place: Place, typeName: string): unknown {
  const type = place.types[typeName];
  if (type === undefined) throw new Error(`no type ${typeName} in the schema`);
  switch (type.kind) {
    case 'builtin':
      return visitBuiltin(value, place, type.name);
    case 'enum':
      return visitEnum(value, place, type.values);
    case 'array':
      return visitList(value, place, type.element);
    case 'struct':
    case 'union':
      return visitObject(value, place, type);
    case 'alternate': {
      const json = kindOf(value);
      const branch = type.branches[json];
      if (branch === undefined) throw wrongType(place.leaf ?? 'null', typeName);
      return visit(value, place, branch);
    }
  }
}

function visitObject(
  value: KeyvalValue,
  place: Place,
  type: Extract<TypeModel, { kind: 'struct' | 'union' }>,
): unknown {
  if (value === null || typeof value === 'string' || isList(value)) {
    throw wrongType(place.path, 'object');
  }
  const object = value;
  const result = Object.create(null) as Record<string, unknown>;
  const left = new GlibStringSet(membersInOrder(object));
  const take = (members: typeof type.members) => {
    for (const { name, type: memberType, optional } of members) {
      const member = object[name];
      const path = nameBelow(place, name);
      if (member === undefined) {
        if (!optional) throw new QmpError(`Parameter '${path}' is missing`);
      } else {
        left.delete(name);
        result[name] = visit(member, { ...place, path, leaf: name }, memberType);
      }
    }
  };
  take(type.members);
  if (type.kind === 'union') {
    const variant = place.types[type.variants[String(result[type.tag])] ?? ''];
    if (variant?.kind === 'struct' || variant?.kind === 'union') {
      takeVariant(variant, take, result, place.types);
    }
  }
  for (const name of left) {
    throw new QmpError(`Parameter '${nameBelow(place, name)}' is unexpected`);
  }
  return result;
}

/** The variant's members, and those of its own variant when it is a union itself. */
function takeVariant(
  variant: Extract<TypeModel, { kind: 'struct' | 'union' }>,
  take: (members: typeof variant.members) => void,
  result: Readonly<Record<string, unknown>>,
  types: TypeModels,
): void {
  take(variant.members);
  if (variant.kind !== 'union') return;
  const inner = types[variant.variants[String(result[variant.tag])] ?? ''];
  if (inner?.kind === 'struct' || inner?.kind === 'union') takeVariant(inner, take, result, types);
}

function visitList(value: KeyvalValue, place: Place, element: string): unknown {
  if (!isList(value)) throw wrongType(place.path, 'array');
  return value.map((member, index) =>
    visit(member, { ...place, path: `${place.path}.${index}`, leaf: undefined }, element),
  );
}

function visitEnum(value: KeyvalValue, place: Place, values: readonly string[]): string {
  const text = textOf(value, place);
  if (!values.includes(text)) {
    throw new QmpError(`Parameter '${place.leaf ?? 'null'}' does not accept value '${text}'`);
  }
  return text;
}

function visitBuiltin(value: KeyvalValue, place: Place, name: BuiltinTypeName): unknown {
  switch (name) {
    case 'any':
      return value;
    case 'null':
      if (value === null) return null;
      throw wrongType(place.path, 'null');
    case 'str':
      return textOf(value, place);
    case 'bool': {
      const text = textOf(value, place);
      if (TRUE_WORDS.has(text)) return true;
      if (FALSE_WORDS.has(text)) return false;
      throw expects(place.path, `'on' or 'off'`);
    }
    case 'number': {
      const text = textOf(value, place);
      const number = /^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/.test(text)
        ? Number(text)
        : NaN;
      if (!Number.isFinite(number)) throw wrongType(place.path, 'number');
      return number;
    }
    case 'size': {
      const size = parseSizeText(textOf(value, place));
      if (typeof size !== 'bigint') throw expects(place.path, 'size');
      return exact(size, place);
    }
    case 'int':
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'uint64':
      return visitInteger(textOf(value, place), place, name);
  }
}

function visitInteger(
  text: string,
  place: Place,
  name: Exclude<BuiltinTypeName, 'any' | 'null' | 'str' | 'bool' | 'number' | 'size'>,
): number {
  const parse = name.startsWith('u') ? parseUnsignedText : parseNumberText;
  const number = parse(text);
  if (typeof number !== 'bigint') throw expects(place.path, 'integer');
  if (name !== 'int' && name !== 'int64' && name !== 'uint64') {
    const [lowest, highest, called] = NARROW[name];
    if (number < lowest || number > highest) throw expects(place.leaf ?? 'null', called);
  }
  return exact(number, place);
}

function textOf(value: KeyvalValue, place: Place): string {
  if (typeof value === 'string') return value;
  if (value === null) throw wrongType(place.path, 'string');
  throw new QmpError(`Parameters '${place.path}.*' are unexpected`);
}

/** A number holds integers exactly below 2^53 only; no member means anything beyond it. */
function exact(number: bigint, place: Place): number {
  const short = Number(number);
  if (Number.isSafeInteger(short)) return short;
  throw new QmpError(
    `Parameter '${place.path}' does not accept the value ${number}, it must be below 2^53`,
  );
}

function kindOf(value: KeyvalValue): 'null' | 'string' | 'array' | 'object' {
  if (value === null) return 'null';
  if (typeof value === 'string') return 'string';
  return isList(value) ? 'array' : 'object';
}

function nameBelow(place: Place, name: string): string {
  return place.path === '' ? name : `${place.path}.${name}`;
}

function isList(value: KeyvalValue): value is readonly KeyvalValue[] {
  return Array.isArray(value);
}

function wrongType(path: string, expected: string): QmpError {
  return new QmpError(`Invalid parameter type for '${path}', expected: ${expected}`);
}

function expects(path: string, what: string): QmpError {
  return new QmpError(`Parameter '${path}' expects ${what}`);
}
