// Compiled validators: what they accept, and which fault they find first.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { emitValidators } from '../../../codegen/emit-validators.ts';
import { loadSchema } from '../../../codegen/schema.ts';

const SCHEMA = `
  { 'enum': 'Kind', 'data': [ 'point', 'line', 'box' ] }
  { 'struct': 'Base', 'data': { 'first': 'str', '*second': 'int' } }
  { 'struct': 'Derived', 'base': 'Base', 'data': { 'third': 'bool', '*fourth': [ 'uint8' ] } }
  { 'struct': 'Line', 'data': { 'length': 'uint32', '*of': 'Ref' } }
  { 'struct': 'Box', 'data': { 'height': 'size' } }
  { 'union': 'Shape', 'base': { 'name': 'str', 'kind': 'Kind' }, 'discriminator': 'kind',
    'data': { 'line': 'Line', 'box': 'Box' } }
  { 'alternate': 'Ref', 'data': { 'by': 'str', 'shape': 'Shape', 'many': [ 'Shape' ], 'none': 'null' } }
  { 'alternate': 'Flag', 'data': { 'set': 'bool', 'count': 'int' } }
  { 'command': 'derived', 'data': 'Derived' }
  { 'command': 'shape', 'data': 'Shape', 'boxed': true }
  { 'command': 'ints', 'data': { '*int': 'int', '*i8': 'int8', '*i16': 'int16', '*i32': 'int32', '*i64': 'int64',
      '*u8': 'uint8', '*u16': 'uint16', '*u32': 'uint32', '*u64': 'uint64', '*size': 'size' } }
  { 'command': 'others', 'data': { '*number': 'number', '*any': 'any', '*null': 'null', '*ref': 'Ref',
      '*refs': [ 'Ref' ], '*flag': 'Flag', '*kinds': [ 'Kind' ], '*string': 'str' } }
`;

interface Validator {
  (value: unknown): boolean;
  errors?: { instancePath: string; params: object }[] | null;
}

const folder = mkdtempSync(join(tmpdir(), 'codegen-'));
const file = join(folder, 'validators.mjs');
writeFileSync(
  file,
  emitValidators(loadSchema('main.json', { defined: new Set(), readText: () => SCHEMA })).js,
);
const { validators } = (await import(pathToFileURL(file).href)) as {
  validators: Record<string, Validator>;
};

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** `ok`, or where and what the only error is. */
function verdict(type: string, value: unknown): unknown {
  const validate = validators[type];
  if (validate === undefined) throw new Error(`no validator ${type}`);
  if (validate(value)) {
    expect(validate.errors).toBeNull();
    return 'ok';
  }
  expect(validate.errors).toHaveLength(1);
  const [error] = validate.errors ?? [];
  return { at: error?.instancePath, ...error?.params };
}

/** A number with a fraction or exponent, as the JSON parser gives it. */
class Fraction {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

describe('members', () => {
  const known = ['first', 'second', 'third', 'fourth'];

  it('accepts the required ones alone and all together', () => {
    expect(verdict('Derived', { first: 'a', third: true })).toBe('ok');
    expect(verdict('Derived', { fourth: [1], third: false, second: 2, first: 'a' })).toBe('ok');
  });

  it.each([
    ['the base’s before the own', {}, { at: '', kind: 'missing', member: 'first' }],
    [
      'a wrong one of the base before a missing own one',
      { first: 'a', second: 'b' },
      { at: '/second', kind: 'type', expected: 'integer' },
    ],
    [
      'an earlier missing one before a later wrong one',
      { first: 'a', fourth: 'no' },
      { at: '', kind: 'missing', member: 'third' },
    ],
    [
      'an element by its index',
      { first: 'a', third: true, fourth: [1, 2, 'x'] },
      { at: '/fourth/2', kind: 'integer', expected: 'uint64' },
    ],
    [
      'an unexpected one last',
      { zz: 1, first: 'a', third: true },
      { at: '', kind: 'unexpected', member: 'zz', known },
    ],
    [
      'an unexpected one only if the rest is sound',
      { zz: 1, first: 'a', third: 'x' },
      { at: '/third', kind: 'type', expected: 'boolean' },
    ],
  ])('finds %s', (_, value, expected) => {
    expect(verdict('Derived', value)).toEqual(expected);
  });

  it.each([
    ['null', null],
    ['an array', []],
    ['a string', 'x'],
    ['a number', 1],
    ['a fraction', new Fraction(1.5)],
  ])('takes %s for no object', (_, value) => {
    expect(verdict('Derived', value)).toEqual({ at: '', kind: 'type', expected: 'object' });
  });

  it('accepts objects without a prototype', () => {
    const value: unknown = Object.assign(Object.create(null) as object, {
      first: 'a',
      third: true,
    });
    expect(verdict('Derived', value)).toBe('ok');
  });

  it('takes an inherited name for no member', () => {
    const value: unknown = JSON.parse('{"first": "a", "third": true, "__proto__": {}}');
    expect(verdict('Derived', value)).toMatchObject({ kind: 'unexpected', member: '__proto__' });
  });

  it('accepts nothing but an empty object for a command without arguments', () => {
    expect(verdict('NoArguments', {})).toBe('ok');
    const unexpected = { at: '', kind: 'unexpected', member: 'a', known: [] };
    expect(verdict('NoArguments', { a: 1 })).toEqual(unexpected);
  });

  it('takes a member that is undefined for absent', () => {
    expect(verdict('Derived', { first: 'a', second: undefined, third: true })).toBe('ok');
  });
});

describe('unions', () => {
  it('accepts each value of the tag with its members, and a value that adds none', () => {
    expect(verdict('Shape', { name: 'a', kind: 'point' })).toBe('ok');
    expect(verdict('Shape', { name: 'a', kind: 'line', length: 1, of: 'b' })).toBe('ok');
    expect(verdict('Shape', { height: 1, kind: 'box', name: 'a' })).toBe('ok');
  });

  it('finds what the base lacks before what the variant lacks', () => {
    expect(verdict('Shape', { kind: 'line' })).toEqual({ at: '', kind: 'missing', member: 'name' });
    const missing = { at: '', kind: 'missing', member: 'length' };
    expect(verdict('Shape', { name: 'a', kind: 'line' })).toEqual(missing);
  });

  it('refuses the members of another variant, and names those of this one', () => {
    const value = { name: 'a', kind: 'line', length: 1, height: 1 };
    const known = ['name', 'kind', 'length', 'of'];
    const unexpected = { at: '', kind: 'unexpected', member: 'height', known };
    expect(verdict('Shape', value)).toEqual(unexpected);
  });

  it('refuses an unknown value of the tag by its text', () => {
    const refused = { at: '/kind', kind: 'enum', value: 'blob' };
    expect(verdict('Shape', { name: 'a', kind: 'blob', x: 1 })).toEqual(refused);
  });

  it('asks for a tag, and for a string as the tag', () => {
    expect(verdict('Shape', { name: 'a' })).toEqual({ at: '', kind: 'missing', member: 'kind' });
    const wrong = { at: '/kind', kind: 'type', expected: 'string' };
    expect(verdict('Shape', { name: 'a', kind: 1 })).toEqual(wrong);
  });
});

describe('integers', () => {
  const ranges = [
    ['i8', -128, 127, 'int8_t'],
    ['i16', -32768, 32767, 'int16_t'],
    ['i32', -2147483648, 2147483647, 'int32_t'],
    ['u8', 0, 255, 'uint8_t'],
    ['u16', 0, 65535, 'uint16_t'],
    ['u32', 0, 4294967295, 'uint32_t'],
  ] as const;

  it.each(ranges)('%s goes from %d to %d', (name, min, max, expected) => {
    expect(verdict('IntsArguments', { [name]: min })).toBe('ok');
    expect(verdict('IntsArguments', { [name]: max })).toBe('ok');
    const outside = { at: `/${name}`, kind: 'integer', expected };
    expect(verdict('IntsArguments', { [name]: min - 1 })).toEqual(outside);
    expect(verdict('IntsArguments', { [name]: max + 1 })).toEqual(outside);
    expect(verdict('IntsArguments', { [name]: 2n ** 60n })).toEqual(outside);
  });

  it.each(['int', 'i8', 'i16', 'i32', 'i64'])('%s is a 64-bit integer first', (name) => {
    const wrong = { at: `/${name}`, kind: 'type', expected: 'integer' };
    for (const value of ['1', 1.5, null, true, [], {}, new Fraction(1), 2n ** 63n]) {
      expect(verdict('IntsArguments', { [name]: value })).toEqual(wrong);
    }
  });

  it.each(['u8', 'u16', 'u32', 'u64', 'size'])('%s is an unsigned 64-bit integer first', (name) => {
    const wrong = { at: `/${name}`, kind: 'integer', expected: 'uint64' };
    for (const value of ['1', 1.5, null, true, [], {}, new Fraction(1)]) {
      expect(verdict('IntsArguments', { [name]: value })).toEqual(wrong);
    }
  });

  it.each(['int', 'i64'])('%s is refused where a number is not exact', (name) => {
    expect(verdict('IntsArguments', { [name]: Number.MAX_SAFE_INTEGER })).toBe('ok');
    expect(verdict('IntsArguments', { [name]: Number.MIN_SAFE_INTEGER })).toBe('ok');
    const unsafe = {
      at: `/${name}`,
      kind: 'unsafe',
      expected: 'integer',
      value: '9007199254740992',
    };
    expect(verdict('IntsArguments', { [name]: 2n ** 53n })).toEqual(unsafe);
  });

  it.each(['u64', 'size'])(
    '%s is refused where a number is not exact, and when negative',
    (name) => {
      expect(verdict('IntsArguments', { [name]: Number.MAX_SAFE_INTEGER })).toBe('ok');
      const unsafe = { at: `/${name}`, kind: 'unsafe', expected: 'uint64' };
      const huge = { ...unsafe, value: '18446744073709551615' };
      expect(verdict('IntsArguments', { [name]: 2n ** 64n - 1n })).toEqual(huge);
      expect(verdict('IntsArguments', { [name]: -1 })).toEqual({ ...unsafe, value: '-1' });
    },
  );
});

describe('other types', () => {
  it('takes integers, big ones and fractions for numbers', () => {
    for (const number of [1, 1.5, 2n ** 60n, new Fraction(0.5)]) {
      expect(verdict('OthersArguments', { number })).toBe('ok');
    }
    const wrong = { at: '/number', kind: 'type', expected: 'number' };
    for (const number of ['1', null, {}, []]) {
      expect(verdict('OthersArguments', { number })).toEqual(wrong);
    }
  });

  it('takes anything for any', () => {
    for (const any of [null, 1, 'x', [], { a: 1 }, new Fraction(1)]) {
      expect(verdict('OthersArguments', { any })).toBe('ok');
    }
  });

  it('takes only null for null, and only a string for str', () => {
    expect(verdict('OthersArguments', { null: null })).toBe('ok');
    const notNull = { at: '/null', kind: 'type', expected: 'null' };
    expect(verdict('OthersArguments', { null: 0 })).toEqual(notNull);
    const notString = { at: '/string', kind: 'type', expected: 'string' };
    expect(verdict('OthersArguments', { string: 0 })).toEqual(notString);
  });

  it('refuses a list that is none, and an enum’s value inside one', () => {
    const notArray = { at: '/kinds', kind: 'type', expected: 'array' };
    expect(verdict('OthersArguments', { kinds: {} })).toEqual(notArray);
    const unknown = { at: '/kinds/1', kind: 'enum', value: 'x' };
    expect(verdict('OthersArguments', { kinds: ['line', 'x'] })).toEqual(unknown);
    expect(verdict('OthersArguments', { kinds: [] })).toBe('ok');
  });
});

describe('alternates', () => {
  it('accepts each branch by its JSON type', () => {
    const point = { name: 'a', kind: 'point' };
    for (const ref of ['x', null, point, [point, point], []]) {
      expect(verdict('OthersArguments', { ref })).toBe('ok');
    }
    for (const flag of [true, 1]) expect(verdict('OthersArguments', { flag })).toBe('ok');
  });

  it('names itself when no branch has the JSON type', () => {
    const none = { at: '/ref', kind: 'alternate', expected: 'Ref' };
    for (const ref of [1, true, new Fraction(1)]) {
      expect(verdict('OthersArguments', { ref })).toEqual(none);
    }
    const element = { at: '/refs/1', kind: 'alternate', expected: 'Ref' };
    expect(verdict('OthersArguments', { refs: ['x', 1] })).toEqual(element);
  });

  it('finds the fault inside the branch that the JSON type chooses', () => {
    const fraction = { at: '/flag', kind: 'type', expected: 'integer' };
    expect(verdict('OthersArguments', { flag: new Fraction(1.5) })).toEqual(fraction);
    const missing = { at: '/ref', kind: 'missing', member: 'name' };
    expect(verdict('OthersArguments', { ref: {} })).toEqual(missing);
  });

  it('follows types that hold themselves, and points to the innermost fault', () => {
    const nest = (of: unknown) => ({ name: 'a', kind: 'line', length: 1, of });
    expect(verdict('Shape', nest(nest(nest('x'))))).toBe('ok');
    const wrong = { at: '/of/of', kind: 'alternate', expected: 'Ref' };
    expect(verdict('Shape', nest(nest(5)))).toEqual(wrong);
    const deep = { at: '/of/0/of/length', kind: 'integer', expected: 'uint32_t' };
    expect(verdict('Shape', nest([nest({ ...nest('x'), length: -1 })]))).toEqual(deep);
  });
});
