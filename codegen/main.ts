// node --import tsx codegen/main.ts SCHEMA OUTPUT-FOLDER [--docs FILE]: QAPI schema -> everything generated from it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DEFINED_SYMBOLS } from './conditions.ts';
import { emitCommands } from './emit-commands.ts';
import { emitDocs } from './emit-docs.ts';
import { emitEnums } from './emit-enums.ts';
import { emitEvents } from './emit-events.ts';
import { emitIntrospection } from './emit-introspection.ts';
import { emitJsonSchema } from './emit-json-schema.ts';
import { emitTypeModel } from './emit-type-model.ts';
import { emitTypes } from './emit-types.ts';
import { emitValidators } from './emit-validators.ts';
import { SchemaError } from './errors.ts';
import { loadSchema } from './schema.ts';

const DEFAULT_MANUAL = 'dist/qmp-reference.md';
const USAGE = 'usage: main.ts SCHEMA OUTPUT-FOLDER [--docs FILE]';

interface Invocation {
  readonly schema: string;
  readonly output: string;
  readonly manual: string;
}

function invocation(args: readonly string[]): Invocation | undefined {
  const [schema, output, option, manual, ...rest] = args;
  if (schema === undefined || output === undefined || rest.length > 0) return undefined;
  if (option === undefined) return { schema, output, manual: DEFAULT_MANUAL };
  if (option !== '--docs' || manual === undefined) return undefined;
  return { schema, output, manual };
}

async function generate({ schema: file, output, manual }: Invocation): Promise<void> {
  const schema = loadSchema(file, { defined: DEFINED_SYMBOLS });
  const validators = emitValidators(schema);
  const jsonSchema = emitJsonSchema(schema);
  const files = {
    'json-schema.json': `${JSON.stringify(jsonSchema, null, 2)}\n`,
    'types.ts': await emitTypes(jsonSchema),
    'enums.ts': emitEnums(schema),
    'commands.ts': emitCommands(schema),
    'events.ts': emitEvents(schema),
    'type-model.ts': emitTypeModel(schema),
    'introspection.ts': emitIntrospection(schema),
    'validators.js': validators.js,
    'validators.d.ts': validators.dts,
  };
  for (const [name, text] of Object.entries(files)) write(join(output, name), text);
  write(manual, emitDocs(schema));
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

const wanted = invocation(process.argv.slice(2));
if (wanted === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 1;
} else {
  try {
    await generate(wanted);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
