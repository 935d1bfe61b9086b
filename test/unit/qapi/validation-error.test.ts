import { describe, expect, it } from 'vitest';
import { type TypeName, validators } from '../../../src/qapi/generated/validators.js';
import { parseJson } from '../../../src/qapi/json-stream.ts';
import { validationError } from '../../../src/qapi/validation-error.ts';

/** What is said about JSON text that a type's validator refuses. */
function said(type: TypeName, text: string, options: { keyval?: boolean } = {}): string {
  const value = parseJson(text);
  const validate = validators[type];
  expect(validate(value)).toBe(false);
  return validationError(validate.errors, value, options).desc;
}

describe('validationError', () => {
  it.each<[TypeName, string, string]>([
    ['NbdServerStartArguments', '{}', "Parameter 'addr' is missing"],
    [
      'NbdServerStartArguments',
      '{"addr":5}',
      "Invalid parameter type for 'addr', expected: object",
    ],
    ['NbdServerStartArguments', '{"addr":{}}', "Parameter 'addr.type' is missing"],
    [
      'NbdServerStartArguments',
      '{"addr":{"type":"foo"}}',
      "Parameter 'type' does not accept value 'foo'",
    ],
    [
      'NbdServerStartArguments',
      '{"addr":{"type":"unix","data":{}}}',
      "Parameter 'addr.data.path' is missing",
    ],
    [
      'NbdServerStartArguments',
      '{"addr":{"type":"unix","data":{"path":"p","x":1}}}',
      "Parameter 'addr.data.x' is unexpected",
    ],
    [
      'NbdServerStartArguments',
      '{"x":1,"addr":{"type":"unix","data":{"path":5}}}',
      "Invalid parameter type for 'addr.data.path', expected: string",
    ],
    [
      'NbdServerStartArguments',
      '{"addr":{"type":"unix","data":{"path":"p"}},"max-connections":-1}',
      "Parameter 'max-connections' expects uint32_t",
    ],
    [
      'NbdServerStartArguments',
      '{"addr":{"type":"unix","data":{"path":"p"}},"max-connections":1.0}',
      "Parameter 'max-connections' expects uint64",
    ],
    [
      'QmpCapabilitiesArguments',
      '{"enable":["zz"]}',
      "Parameter 'null' does not accept value 'zz'",
    ],
    [
      'QmpCapabilitiesArguments',
      '{"enable":[5]}',
      "Invalid parameter type for 'enable[0]', expected: string",
    ],
    [
      'QmpCapabilitiesArguments',
      '{"enable":5}',
      "Invalid parameter type for 'enable', expected: array",
    ],
    [
      'BlockdevOptions',
      '{"driver":"raw","file":5}',
      "Invalid parameter type for 'file', expected: BlockdevRef",
    ],
    [
      'BlockdevOptions',
      '{"driver":"raw","read-only":"on","file":"f"}',
      "Invalid parameter type for 'read-only', expected: boolean",
    ],
    [
      'BlockdevOptions',
      '{"driver":"null-co","size":1.5}',
      "Invalid parameter type for 'size', expected: integer",
    ],
  ])('of %s says about %s', (type, text, expected) => {
    expect(said(type, text)).toBe(expected);
  });

  it('names the limit of integers that are exact', () => {
    expect(said('BlockdevOptions', '{"driver":"null-co","size":9007199254740993}')).toBe(
      "Parameter 'size' does not accept the value 9007199254740993, it must be below 2^53",
    );
  });

  it('spells elements of lists as keyval does when asked to', () => {
    expect(said('QmpCapabilitiesArguments', '{"enable":[5]}', { keyval: true })).toBe(
      "Invalid parameter type for 'enable.0', expected: string",
    );
  });

  it('speaks of a root that is no object', () => {
    expect(said('BlockdevOptions', '5')).toBe(
      "Invalid parameter type for '<anonymous>', expected: object",
    );
  });
});
