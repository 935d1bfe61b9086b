// Every rule of the schema language: a schema that breaks it, and the message. The cases are in errors/.

import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DEFINED_SYMBOLS } from '../../codegen/conditions.ts';
import { SchemaError } from '../../codegen/errors.ts';
import { loadSchema } from '../../codegen/schema.ts';
import { type ErrorCase, readCases, writeCases } from './cases.ts';

const folder = fileURLToPath(new URL('errors/', import.meta.url));
const update = process.env['UPDATE_GOLDENS'] !== undefined;

/** What reading the schema ends with. */
function messageOf({ files }: ErrorCase): string {
  const readText = (path: string): string => {
    const text = files.get(path);
    if (text === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' });
    return text;
  };
  try {
    loadSchema('main.json', { defined: DEFINED_SYMBOLS, readText });
  } catch (error) {
    if (error instanceof SchemaError) return error.message;
    throw error;
  }
  return 'no error';
}

for (const name of readdirSync(folder).filter((each) => each.endsWith('.cases'))) {
  const path = `${folder}${name}`;
  const cases = readCases(path);
  if (update)
    writeCases(
      path,
      cases.map((each) => ({ ...each, error: messageOf(each) })),
    );

  describe(`schema errors: ${name.replace('.cases', '')}`, () => {
    it.each(readCases(path))('$title', (each) => {
      expect(messageOf(each)).toBe(each.error);
      expect(each.error).not.toBe('no error');
    });
  });
}
