// Sound schemas: how they are understood and what is generated from them, compared with recorded text. After a deliberate
// change, `vitest -u` records anew; read the difference.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { emitCommands } from '../../codegen/emit-commands.ts';
import { emitDocs } from '../../codegen/emit-docs.ts';
import { emitEnums } from '../../codegen/emit-enums.ts';
import { emitEvents } from '../../codegen/emit-events.ts';
import { emitIntrospection } from '../../codegen/emit-introspection.ts';
import { emitJsonSchema } from '../../codegen/emit-json-schema.ts';
import { emitTypeModel } from '../../codegen/emit-type-model.ts';
import { emitTypes } from '../../codegen/emit-types.ts';
import { emitValidators } from '../../codegen/emit-validators.ts';
import { loadSchema } from '../../codegen/schema.ts';
import { describeSchema } from './describe-schema.ts';

const folder = fileURLToPath(new URL('good/', import.meta.url));
const defined = new Set(['CONFIG_LINUX']);
const schema = loadSchema(`${folder}everything.json`, { defined });
const scratch = mkdtempSync(join(tmpdir(), 'codegen-'));

afterAll(() => {
  rmSync(scratch, { recursive: true });
});

describe('a schema with one of everything', () => {
  const outputs: Record<string, () => string | Promise<string>> = {
    'schema.txt': () => describeSchema(schema),
    'json-schema.json': () => `${JSON.stringify(emitJsonSchema(schema), null, 2)}\n`,
    'types.ts.txt': () => emitTypes(emitJsonSchema(schema)),
    'enums.ts.txt': () => emitEnums(schema),
    'commands.ts.txt': () => emitCommands(schema),
    'events.ts.txt': () => emitEvents(schema),
    'type-model.ts.txt': () => emitTypeModel(schema),
    'introspection.ts.txt': () => emitIntrospection(schema),
    'validators.d.ts.txt': () => emitValidators(schema).dts,
    'manual.md': () => emitDocs(schema),
  };

  it.each(Object.entries(outputs))('gives the recorded %s', async (name, emit) => {
    await expect(await emit()).toMatchFileSnapshot(`${folder}everything/${name}`);
  });

  it('gives validators that import nothing and can be loaded', async () => {
    const file = join(scratch, 'validators.mjs');
    writeFileSync(file, emitValidators(schema).js);
    const { validators } = (await import(pathToFileURL(file).href)) as {
      validators: Record<string, (value: unknown) => boolean>;
    };
    expect(validators['NoArguments']?.({})).toBe(true);
    expect(validators['Shape']?.({ kind: 'point', name: 'origin' })).toBe(true);
    expect(validators['Shape']?.({ kind: 'hole' })).toBe(false);
  });
});

describe('empty and small schemas', () => {
  const load = (text: string) => loadSchema('main.json', { defined, readText: () => text });

  it('reads an empty file', () => {
    expect(load('').definitions).toEqual([]);
  });

  it('reads a file of comments', () => {
    expect(load('# one\n  # two').definitions).toEqual([]);
  });

  it('reads a definition that the file ends in without a newline', () => {
    expect(load("{ 'command': 'go' }").commands.map(({ name }) => name)).toEqual(['go']);
  });

  it('reads strings with structure characters in comments and keys spread over lines', () => {
    const text = "{ 'enum': # { [ '\n 'Colour',\n 'data'\n:\n[ ] }";
    expect(load(text).definitions.map(({ name }) => name)).toEqual(['Colour']);
  });

  it('takes names with vendor and experiment prefixes', () => {
    const text = "{ 'command': '__com.example_x-go', 'data': { '__com.example_x-fast': 'bool' } }";
    expect(load(text).commands.map(({ name }) => name)).toEqual(['__com.example_x-go']);
  });

  it('lets a definition use one that follows', () => {
    const text = "{ 'command': 'go', 'returns': 'Later' } { 'struct': 'Later', 'data': { } }";
    expect(load(text).commands[0]?.returns?.name).toBe('Later');
  });

  it('lets a struct hold an array of itself', () => {
    const text = "{ 'struct': 'Tree', 'data': { 'branches': [ 'Tree' ], '*root': 'Tree' } }";
    expect(load(text).definitions).toHaveLength(1);
  });
});
