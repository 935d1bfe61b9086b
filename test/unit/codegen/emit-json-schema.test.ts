// The JSON Schema by itself: sound by the rules of its own standard, and of one opinion with the validators.

import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { DEFINED_SYMBOLS } from '../../../codegen/conditions.ts';
import { emitJsonSchema } from '../../../codegen/emit-json-schema.ts';
import { loadSchema } from '../../../codegen/schema.ts';
import { type TypeName, validators } from '../../../src/qapi/generated/validators.js';

const file = fileURLToPath(new URL('../../../qapi/qapi-schema.json', import.meta.url));
const document = emitJsonSchema(loadSchema(file, { defined: DEFINED_SYMBOLS }));
const ajv = new Ajv({ allowUnionTypes: true, strictTypes: false, strictRequired: false });
ajv.addKeyword('tsType');
ajv.addSchema(document, 'qapi');

function opinion(type: TypeName, value: unknown): { standard: unknown; ours: boolean } {
  const standard = ajv.getSchema(`qapi#/definitions/${type}`);
  return { standard: standard?.(value), ours: validators[type](value) };
}

const unix = { type: 'unix', data: { path: '/run/s' } };
const samples: readonly (readonly [TypeName, unknown, boolean])[] = [
  ['NoArguments', {}, true],
  ['NoArguments', { a: 1 }, false],
  ['BlockdevOptions', { driver: 'file', filename: 'a', locking: 'auto' }, true],
  ['BlockdevOptions', { driver: 'file', filename: 'a', size: 1 }, false],
  ['BlockdevOptions', { driver: 'null-co', size: 1, 'read-zeroes': true }, true],
  ['BlockdevOptions', { driver: 'raw', file: 'a' }, true],
  ['BlockdevOptions', { driver: 'raw', file: { driver: 'raw', file: 'a', offset: 1 } }, true],
  ['BlockdevOptions', { driver: 'raw', file: 5 }, false],
  ['BlockdevOptions', { driver: 'nope' }, false],
  ['BlockdevOptions', { driver: 'raw', file: 'a', cache: { direct: 'yes' } }, false],
  ['NbdServerStartArguments', { addr: unix }, true],
  ['NbdServerStartArguments', { addr: unix, 'max-connections': '1' }, false],
  ['NbdServerStartArguments', { addr: { type: 'unix', data: {} } }, false],
  ['NbdServerOptions', { addr: { type: 'unix', path: '/run/s' } }, true],
  ['NbdServerOptions', { addr: unix }, false],
  ['QmpCapabilitiesArguments', { enable: ['oob'] }, true],
  ['QmpCapabilitiesArguments', { enable: ['bob'] }, false],
  ['QomSetArguments', { path: '/', property: 'a', value: [null] }, true],
  ['QomSetArguments', { path: '/', property: 'a' }, false],
  ['ObjectOptions', { 'qom-type': 'secret', id: 'a', data: 'b' }, true],
  ['ObjectOptions', { 'qom-type': 'authz-simple', id: 'a', data: 'b' }, false],
];

describe('emitJsonSchema', () => {
  it('follows the standard', () => {
    expect(ajv.validateSchema(document)).toBe(true);
    for (const name of Object.keys(document.definitions)) {
      expect(() => ajv.getSchema(`qapi#/definitions/${name}`)).not.toThrow();
    }
  });

  it.each(samples)(
    '%s: %j is judged alike by the standard and by the validators',
    (type, value, ok) => {
      expect(opinion(type, value)).toEqual({ standard: ok, ours: ok });
    },
  );

  it('describes every type and every member', () => {
    for (const [name, definition] of Object.entries(document.definitions)) {
      expect({ name, text: definition.description }).toEqual({
        name,
        text: expect.stringMatching(/\S/),
      });
      for (const object of definition.anyOf ?? [definition]) {
        for (const [member, { description }] of Object.entries(object.properties ?? {})) {
          expect({ name, member, description }).toEqual({
            name,
            member,
            description: expect.stringMatching(/\S/),
          });
        }
      }
    }
  });
});
