import { assert as assertProperty, boolean, double, jsonValue, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonDouble } from '../../../src/qapi/json-double.ts';
import { parseJson } from '../../../src/qapi/json-stream.ts';
import { formatDouble, writeJson } from '../../../src/qapi/json-writer.ts';

describe('writeJson', () => {
  it('orders members as the recorded answers of the reference', () => {
    const keys = (...names: string[]) =>
      [...writeJson(Object.fromEntries(names.map((name) => [name, 0]))).matchAll(/"(.*?)"/g)].map(
        ([, name]) => name,
      );
    expect(keys('return', 'id')).toEqual(['return', 'id']);
    expect(keys('error', 'id')).toEqual(['id', 'error']);
    expect(keys('class', 'desc')).toEqual(['class', 'desc']);
    expect(keys('event', 'data', 'timestamp')).toEqual(['timestamp', 'event', 'data']);
    expect(keys('id', 'type', 'node-name', 'shutting-down')).toEqual([
      'node-name',
      'shutting-down',
      'type',
      'id',
    ]);
    expect(keys('type', 'id', 'error', 'status', 'current-progress', 'total-progress')).toEqual([
      'current-progress',
      'status',
      'total-progress',
      'type',
      'id',
      'error',
    ]);
  });

  it('puts the member that came last first where the hash cannot tell', () => {
    expect(writeJson({ major: 7, minor: 2, micro: 22 })).toBe(
      '{"micro": 22, "minor": 2, "major": 7}',
    );
    expect(writeJson({ major: 7, micro: 22, minor: 2 })).toBe(
      '{"minor": 2, "micro": 22, "major": 7}',
    );
  });

  it('orders names that look like indexes, and others than ASCII, by their hash', () => {
    const text =
      '{"k":1,"l":2,"1":3,"2":4,"10":5,"é":6,"\\u0000":7,"very-long-name-of-a-member":8}';
    expect(writeJson(parseJson(text))).toBe(
      '{"very-long-name-of-a-member": 8, "\\u00E9": 6, "\\u0000": 7, "1": 3, "10": 5, "k": 1, "2": 4, "l": 2}',
    );
  });

  it('escapes all but printable ASCII, in upper case', () => {
    expect(writeJson('\u007f\u00e9\u{1f600}\u0001/\\"\b\f\n\r\t\0')).toBe(
      '"\\u007F\\u00E9\\uD83D\\uDE00\\u0001/\\\\\\"\\b\\f\\n\\r\\t\\u0000"',
    );
  });

  it('replaces what is no character', () => {
    expect(writeJson('\ud800 \ufffe \ufdd0')).toBe('"\\uFFFD \\uFFFD \\uFFFD"');
  });

  it('escapes text of any length, wherever a pair of surrogates lies in it', () => {
    for (const length of [8190, 8191, 8192, 8193, 50_000]) {
      const text = `${'é'.repeat(length)}\u{1f600}"`;
      expect(writeJson(text)).toBe(`"${'\\u00E9'.repeat(length)}\\uD83D\\uDE00\\""`);
    }
  });

  it('writes integers exactly', () => {
    expect(writeJson([0, -0, 2 ** 53, 18446744073709551615n, -5])).toBe(
      '[0, 0, 9007199254740992, 18446744073709551615, -5]',
    );
  });

  it('leaves out members that are undefined', () => {
    expect(writeJson({ a: undefined, b: 1 })).toBe('{"b": 1}');
  });

  it('indents by four with pretty, empty objects and arrays too', () => {
    expect(writeJson({ return: { a: [], b: [1, 2], c: {} } }, { pretty: true })).toBe(
      '{\n    "return": {\n        "a": [\n        ],\n        "b": [\n            1,\n            2\n        ],\n        "c": {\n        }\n    }\n}',
    );
    expect(writeJson({ return: {} }, { pretty: true })).toBe('{\n    "return": {\n    }\n}');
  });

  it('writes nothing that the parser reads differently', () => {
    const value = jsonValue({ maxDepth: 3 }).filter(
      (json) => !/:null|e\+|\d\.\d|\d{17}/.test(JSON.stringify(json)),
    );
    assertProperty(
      property(value, boolean(), (json, pretty) => {
        const text = writeJson(json, { pretty });
        if (/FFFD/.test(text)) return;
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(json)));
        expect(writeJson(parseJson(text), { pretty })).toHaveLength(text.length);
      }),
    );
  });
});

describe('formatDouble', () => {
  it.each([
    [1, '1'],
    [1.5, '1.5'],
    [0.1, '0.10000000000000001'],
    [1000, '1000'],
    [1e16, '10000000000000000'],
    [1e17, '1e+17'],
    [2 ** 64, '1.8446744073709552e+19'],
    [-(2 ** 63), '-9.2233720368547758e+18'],
    [0.0001, '0.0001'],
    [0.00001, '1.0000000000000001e-05'],
    [4.9e-324, '4.9406564584124654e-324'],
    [1.7976931348623157e308, '1.7976931348623157e+308'],
    [-0, '-0'],
    [Infinity, 'inf'],
    [-Infinity, '-inf'],
  ])('prints %d as the reference', (value, text) => {
    expect(formatDouble(value)).toBe(text);
    expect(writeJson(new JsonDouble(value))).toBe(text);
  });

  it('rounds a tie in the last digit to even', () => {
    expect(formatDouble(1234567890123456.25)).toBe('1234567890123456.2');
    expect(formatDouble(1234567890123456.75)).toBe('1234567890123456.8');
  });

  it('can be read back exactly', () => {
    assertProperty(
      property(double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(Object.is(Number(formatDouble(value)), value)).toBe(true);
      }),
    );
  });
});
