// ajv keywords for QAPI types. Each generates its check in place, so that compiled validators import nothing, and leaves at
// the first fault in the order of the reference's input visitor: members in schema order, unexpected members last.

import { _, type Ajv, type CodeKeywordDefinition, type KeywordCxt, Name } from 'ajv';
import { unreachable } from './errors.ts';
import type {
  AlternateVisit,
  BranchJson,
  MemberVisit,
  ObjectVisit,
  VisitSchema,
} from './visit-schema.ts';

type Code = ReturnType<typeof _>;
type Operand = Code | Name;

/** What is wrong; becomes the error's `params`. */
interface Fault {
  readonly kind: 'missing' | 'unexpected' | 'type' | 'enum' | 'integer' | 'unsafe' | 'alternate';
  readonly member?: Operand | string;
  readonly known?: Code;
  readonly expected?: string;
  readonly value?: Operand;
}

const KEYWORDS = {
  qapiBuiltin: checkBuiltin,
  qapiEnum: checkEnum,
  qapiArray: checkArray,
  qapiObject: checkObject,
  qapiAlternate: checkAlternate,
} as const satisfies Record<KeywordName, (cxt: KeywordCxt) => void>;

type KeywordName = Exclude<KeysOfUnion<VisitSchema>, '$ref'>;
type KeysOfUnion<T> = T extends unknown ? keyof T : never;

/** Installs the keywords of visit-schema.ts. */
export function addQapiKeywords(ajv: Ajv): void {
  for (const [keyword, code] of Object.entries(KEYWORDS)) {
    ajv.addKeyword({ keyword, code, error: { message: 'misfit', params: faultCode } });
  }
}

type ErrorParams = Exclude<NonNullable<CodeKeywordDefinition['error']>['params'], Code | undefined>;

const faultCode: ErrorParams = ({ params }) => {
  const { kind, member, known, expected, value } = params as unknown as Fault;
  const cells = [_`kind: ${kind}`];
  if (member !== undefined) cells.push(_`member: ${member}`);
  if (known !== undefined) cells.push(_`known: ${known}`);
  if (expected !== undefined) cells.push(_`expected: ${expected}`);
  if (value !== undefined) cells.push(_`value: ${value}`);
  return _`{${join(cells, _`, `)}}`;
};

/** Generates: if `condition`, report the fault and leave. */
function refuse(cxt: KeywordCxt, condition: Code, fault: Fault): void {
  cxt.gen.if(condition);
  cxt.error(false, { ...fault });
  cxt.gen.endIf();
}

// Scalars

interface IntegerRange {
  readonly min: number;
  readonly max: number;
  /** As messages name the type when the value is outside the range. */
  readonly name: string;
}

/** The integers that a number holds exactly; the others are 64 bits wide. */
const NARROW: { readonly [name: string]: IntegerRange } = {
  int8: { min: -(2 ** 7), max: 2 ** 7 - 1, name: 'int8_t' },
  int16: { min: -(2 ** 15), max: 2 ** 15 - 1, name: 'int16_t' },
  int32: { min: -(2 ** 31), max: 2 ** 31 - 1, name: 'int32_t' },
  uint8: { min: 0, max: 2 ** 8 - 1, name: 'uint8_t' },
  uint16: { min: 0, max: 2 ** 16 - 1, name: 'uint16_t' },
  uint32: { min: 0, max: 2 ** 32 - 1, name: 'uint32_t' },
};

function checkBuiltin(cxt: KeywordCxt): void {
  const { data } = cxt;
  const name = cxt.schema as string;
  switch (name) {
    case 'str':
      return refuse(cxt, _`typeof ${data} !== "string"`, { kind: 'type', expected: 'string' });
    case 'bool':
      return refuse(cxt, _`typeof ${data} !== "boolean"`, { kind: 'type', expected: 'boolean' });
    case 'null':
      return refuse(cxt, _`${data} !== null`, { kind: 'type', expected: 'null' });
    case 'number':
      return refuse(cxt, _`!(${isNumber(data)})`, { kind: 'type', expected: 'number' });
    case 'any':
      return;
    default:
      return checkInteger(cxt, name);
  }
}

/**
 * Integers arrive as number, or as bigint beyond 2^53 - 1. The handlers' types say number, so what fits the QAPI type but no
 * exact number is refused as 'unsafe'; so is a negative uint64, which the reference takes modulo 2^64.
 */
function checkInteger(cxt: KeywordCxt, name: string): void {
  const { data } = cxt;
  const unsigned = name.startsWith('uint') || name === 'size';
  const notAnInteger: Fault = unsigned
    ? { kind: 'integer', expected: 'uint64' }
    : { kind: 'type', expected: 'integer' };
  refuse(cxt, _`typeof ${data} !== "bigint" && !Number.isSafeInteger(${data})`, notAnInteger);
  // A signed type is first read as 64 bits, which a greater number does not fit.
  if (!unsigned) refuse(cxt, _`${data} > 9223372036854775807n`, notAnInteger);
  const range = NARROW[name];
  if (range !== undefined) {
    const { min, max, name: expected } = range;
    return refuse(cxt, _`${data} < ${min} || ${data} > ${max}`, { kind: 'integer', expected });
  }
  const negative = unsigned ? _` || ${data} < 0` : _``;
  refuse(cxt, _`typeof ${data} === "bigint"${negative}`, {
    kind: 'unsafe',
    expected: unsigned ? 'uint64' : 'integer',
    value: _`"" + ${data}`,
  });
}

function checkEnum(cxt: KeywordCxt): void {
  const { data } = cxt;
  const values = cxt.schema as readonly string[];
  refuse(cxt, _`typeof ${data} !== "string"`, { kind: 'type', expected: 'string' });
  refuse(cxt, isNoneOf(data, values), { kind: 'enum', value: data });
}

// Containers

function checkArray(cxt: KeywordCxt): void {
  const { gen, data } = cxt;
  refuse(cxt, _`!Array.isArray(${data})`, { kind: 'type', expected: 'array' });
  const length = gen.const('length', _`${data}.length`);
  gen.forRange('index', 0, length, (index) => {
    // The type that ajv wants here is a const enum of its own: 0 is a number's index.
    visit(cxt, cxt.schema as VisitSchema, { dataProp: index, dataPropType: 0 });
  });
}

function checkObject(cxt: KeywordCxt): void {
  const { gen, data } = cxt;
  const { members, variants } = cxt.schema as ObjectVisit;
  refuse(cxt, _`!(${isPlainObject(data)})`, { kind: 'type', expected: 'object' });
  visitMembers(cxt, members);
  const groups = variants?.groups ?? [];
  const tag = variants === undefined ? undefined : _`${data}[${variants.tag}]`;
  for (const group of groups) {
    if (tag === undefined) break;
    gen.if(isOneOf(tag, group.values), () => visitMembers(cxt, group.members));
  }
  gen.forIn('key', data, (key) => {
    let isKnown = isOneOf(key, namesOf(members));
    let known = listOf(namesOf(members));
    for (const group of groups) {
      if (tag === undefined) break;
      const applies = isOneOf(tag, group.values);
      isKnown = _`${isKnown} || ((${applies}) && (${isOneOf(key, namesOf(group.members))}))`;
      known = _`${known}.concat((${applies}) ? ${listOf(namesOf(group.members))} : [])`;
    }
    refuse(cxt, _`!(${isKnown})`, { kind: 'unexpected', member: key, known });
  });
}

function namesOf(members: readonly MemberVisit[]): string[] {
  return members.map((member) => member.name);
}

function visitMembers(cxt: KeywordCxt, members: readonly MemberVisit[]): void {
  const { gen, data } = cxt;
  for (const { name, optional, schema } of members) {
    const absent = _`${data}[${name}] === undefined`;
    if (optional) {
      gen.if(_`!(${absent})`, () => visit(cxt, schema, { dataProp: name }));
    } else {
      refuse(cxt, absent, { kind: 'missing', member: name });
      visit(cxt, schema, { dataProp: name });
    }
  }
}

function checkAlternate(cxt: KeywordCxt): void {
  const { gen, data } = cxt;
  const { name, branches } = cxt.schema as AlternateVisit;
  for (const { json, schema } of branches) {
    gen.if(isJson(data, json), () => visit(cxt, schema, { data }));
  }
  const any = branches.map(({ json }) => _`(${isJson(data, json)})`);
  refuse(cxt, _`!(${join(any, _` || `)})`, { kind: 'alternate', expected: name });
}

type Where =
  | { readonly dataProp: Name | string; readonly dataPropType?: 0 }
  | { readonly data: Name };

/** Generates the check of a part, and leaving if another function found a fault there. */
function visit(cxt: KeywordCxt, schema: VisitSchema, where: Where): void {
  const { gen, it } = cxt;
  const { schemaPath, errSchemaPath, topSchemaRef } = it;
  const valid = gen.name('valid');
  const from = { schema: schema as object, schemaPath, errSchemaPath, topSchemaRef };
  cxt.subschema({ ...from, ...where }, valid);
  if (!('$ref' in schema)) return;
  gen.if(_`!${valid}`);
  gen.assign(_`${it.validateName}.errors`, new Name('vErrors'));
  gen.return(false);
  gen.endIf();
}

// Conditions

function isJson(data: Operand, json: BranchJson): Code {
  switch (json) {
    case 'null':
      return _`${data} === null`;
    case 'array':
      return _`Array.isArray(${data})`;
    case 'object':
      return isPlainObject(data);
    case 'number':
      return isNumber(data);
    case 'string':
    case 'boolean':
      return _`typeof ${data} === ${json}`;
    default:
      return unreachable(json);
  }
}

/** A number that is no integer is an object of a class; a JSON object has no prototype, one from a program the usual one. */
function isPlainObject(data: Operand): Code {
  const prototype = _`Object.getPrototypeOf(${data})`;
  const plain = _`(${prototype} === null || ${prototype} === Object.prototype)`;
  return _`typeof ${data} === "object" && ${data} !== null && !Array.isArray(${data}) && ${plain}`;
}

function isNumber(data: Operand): Code {
  const boxed = _`(typeof ${data} === "object" && ${data} !== null && !(${isPlainObject(data)}) && typeof ${data}.value === "number")`;
  return _`typeof ${data} === "number" || typeof ${data} === "bigint" || ${boxed}`;
}

function isOneOf(data: Operand, values: readonly string[]): Code {
  if (values.length === 0) return _`false`;
  return join(
    values.map((value) => _`${data} === ${value}`),
    _` || `,
  );
}

function listOf(values: readonly string[]): Code {
  const cells = values.map((value) => _`${value}`);
  return _`[${join(cells, _`, `)}]`;
}

function isNoneOf(data: Operand, values: readonly string[]): Code {
  return _`!(${isOneOf(data, values)})`;
}

function join(parts: readonly Code[], separator: Code): Code {
  return parts.reduce(
    (all, part, index) => (index === 0 ? part : _`${all}${separator}${part}`),
    _``,
  );
}
