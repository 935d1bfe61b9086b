// The examples in the schema's documentation, put to the validators.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DEFINED_SYMBOLS } from '../../codegen/conditions.ts';
import { loadSchema } from '../../codegen/schema.ts';
import { type CommandName, commandTable } from '../../src/qapi/generated/commands.ts';
import { eventNames } from '../../src/qapi/generated/events.ts';
import { validators } from '../../src/qapi/generated/validators.js';

const file = fileURLToPath(new URL('../../qapi/qapi-schema.json', import.meta.url));
const schema = loadSchema(file, { defined: DEFINED_SYMBOLS });

interface Message {
  readonly direction: '->' | '<-';
  readonly value: Readonly<Record<string, unknown>>;
}

/** The messages of an example: each begins at an arrow and goes on to the next one. */
function messages(text: string): Message[] {
  return text.split(/^(?=->|<-)/m).map((piece) => ({
    direction: piece.slice(0, 2) as Message['direction'],
    value: JSON.parse(piece.slice(2)) as Message['value'],
  }));
}

const examples = [...schema.commands, ...schema.events].flatMap(({ name, doc }) =>
  (doc?.sections ?? [])
    .filter(({ tag }) => tag === 'Example' || tag === 'Examples')
    .map(({ text }) => ({ name, text })),
);

describe('an example', () => {
  it('is there for most commands', () => {
    expect(examples.length).toBeGreaterThan(15);
  });

  it.each(examples)('of $name is JSON, and its arguments are valid', ({ name, text }) => {
    const all = messages(text);
    expect(all.length).toBeGreaterThan(0);
    for (const { direction, value } of all) {
      if (direction === '->') {
        expect(value['execute']).toBe(name);
        const validate = validators[commandTable[name as CommandName].argumentsType];
        validate(value['arguments'] ?? {});
        expect(validate.errors).toBeNull();
      } else if (value['event'] === undefined) {
        expect(Object.keys(value)).toEqual(['return']);
      } else {
        expect(eventNames).toContain(value['event']);
      }
    }
  });
});
