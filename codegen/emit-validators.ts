// The validators: ajv standalone code, compiled from the types' visiting form.

import { Ajv } from 'ajv';
import standalone from 'ajv/dist/standalone/index.js';
import { addQapiKeywords } from './qapi-keywords.ts';
import type { Schema } from './types.ts';
import { visitDefinitions } from './visit-schema.ts';
import {
  exportedName,
  GENERATED_NOTICE,
  type NamedType,
  namedTypes,
  propertyKey,
  quote,
} from './visitor.ts';

/** Types that the command line and programs validate by themselves, besides the arguments of the commands. */
const ROOT_TYPES = [
  'BlockdevOptions',
  'BlockExportOptions',
  'NbdServerOptions',
  'MonitorOptions',
  'ObjectOptions',
] as const;

export interface Validators {
  readonly js: string;
  readonly dts: string;
}

export function emitValidators(schema: Schema): Validators {
  const roots = validatedTypes(schema);
  const names = roots.map(exportedName);
  return { js: compiled(roots, names), dts: declarations(names) };
}

function validatedTypes(schema: Schema): NamedType[] {
  const wanted = namedTypes(schema).filter((type) => ROOT_TYPES.some((name) => name === type.name));
  const args = schema.commands.map((command) => command.argumentsType);
  return [...new Set([schema.emptyObject, ...args, ...wanted])];
}

function compiled(roots: readonly NamedType[], names: readonly string[]): string {
  const ajv = new Ajv({
    allErrors: false,
    messages: false,
    strict: true,
    validateSchema: false,
    // Enums are checked where they are used; larger types have a function each.
    inlineRefs: 3,
    code: { source: true, esm: true, lines: true },
  });
  addQapiKeywords(ajv);
  ajv.addSchema({ $id: 'qapi', definitions: visitDefinitions(roots) });
  // The prefix keeps a type's name from hiding a global one, such as String.
  const references = names.map((name) => [`check${name}`, `qapi#/definitions/${name}`] as const);
  const text = withoutSchemas(
    (standalone as unknown as StandaloneCode)(ajv, Object.fromEntries(references)),
  );
  if (/\b(?:require|import)\b\s*\(?["']/.test(text)) {
    throw new Error('the compiled validators import something');
  }
  const rows = names.map((name) => `  ${propertyKey(name)}: check${name},`);
  return `${GENERATED_NOTICE}\n${text}\n\nexport const validators = {\n${rows.join('\n')}\n};\n`;
}

/** The compiler leaves every schema beside its function, as a constant that nothing reads. */
function withoutSchemas(text: string): string {
  return text.replace(/^const (schema\d+) = .*;\n/gm, (line, name: string) =>
    text.split(name).length > 2 ? line : '',
  );
}

/** ajv's own declaration describes the CommonJS wrapper. */
type StandaloneCode = (ajv: Ajv, references: Readonly<Record<string, string>>) => string;

function declarations(names: readonly string[]): string {
  return `${GENERATED_NOTICE}
/**
 * What is wrong with a value. \`instancePath\` names the faulty value, or the object that lacks or should not have \`member\`.
 *
 * - \`missing\`: \`member\` is absent
 * - \`unexpected\`: \`member\` is not known; \`known\` lists those that are, in visiting order
 * - \`type\`: not of the JSON type \`expected\` (string, boolean, integer, number, object, array, null)
 * - \`alternate\`: of none of the JSON types that the alternate \`expected\` has
 * - \`enum\`: a string, \`value\`, that is not among the enum's
 * - \`integer\`: not an integer (\`expected\` is uint64), or outside the range of \`expected\` (uint32_t and the like)
 * - \`unsafe\`: an integer, \`value\`, that the QAPI type holds but a number does not hold exactly, or a negative uint64
 */
export type Fault =
  | { readonly kind: 'missing'; readonly member: string }
  | { readonly kind: 'unexpected'; readonly member: string; readonly known: readonly string[] }
  | { readonly kind: 'type' | 'alternate' | 'integer'; readonly expected: string }
  | { readonly kind: 'unsafe'; readonly expected: string; readonly value: string }
  | { readonly kind: 'enum'; readonly value: string };

export interface ValidationError {
  /** A JSON pointer: \`/addr/data/path\`, \`/enable/0\`. */
  readonly instancePath: string;
  readonly schemaPath: string;
  readonly keyword: string;
  readonly params: Fault;
}

export interface Validator {
  (value: unknown): boolean;
  /** The first fault of the last call, alone in a list; null after a success. */
  errors?: ValidationError[] | null;
}

export type TypeName =
${names.map((name) => `  | ${quote(name)}`).join('\n')};

export declare const validators: { readonly [T in TypeName]: Validator };
`;
}
