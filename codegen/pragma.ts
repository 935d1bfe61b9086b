// `{ 'pragma': { 'doc-required': true, ... } }`: switches for the whole schema.

import { SchemaError } from './errors.ts';
import type { ObjectNode, Pragma, SourceInfo } from './source-info.ts';

const NAME_LISTS = {
  'documentation-exceptions': 'documentationExceptions',
  'command-name-exceptions': 'commandNameExceptions',
  'command-returns-exceptions': 'commandReturnsExceptions',
  'member-name-exceptions': 'memberNameExceptions',
} as const satisfies Record<string, keyof Pragma>;

/** Checks one pragma directive and changes the pragmas in force. */
export function applyPragma(directive: ObjectNode, info: SourceInfo): void {
  const settings = directive.get('pragma')?.value;
  if (directive.size !== 1) throw new SchemaError(info, "a 'pragma' stands alone");
  if (!(settings instanceof Map)) {
    throw new SchemaError(info, "the value of 'pragma' must be an object");
  }
  for (const [name, { value, info: at }] of settings as ObjectNode) {
    if (name === 'doc-required') {
      if (typeof value !== 'boolean')
        throw new SchemaError(at, `pragma '${name}' must be a boolean`);
      info.pragma.docRequired = value;
    } else if (isNameList(name)) {
      const names = Array.isArray(value) ? value.map((node) => node.value) : [undefined];
      if (!names.every((each) => typeof each === 'string')) {
        throw new SchemaError(at, `pragma '${name}' must be a list of strings`);
      }
      info.pragma[NAME_LISTS[name]] = new Set(names);
    } else {
      throw new SchemaError(at, `unknown pragma '${name}'`);
    }
  }
}

function isNameList(name: string): name is keyof typeof NAME_LISTS {
  return Object.hasOwn(NAME_LISTS, name);
}
