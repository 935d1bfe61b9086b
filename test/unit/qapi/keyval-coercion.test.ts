import { describe, expect, it } from 'vitest';
import { parseKeyval } from '../../../src/cli/keyval.ts';
import { coerceKeyval, type TypeModels } from '../../../src/qapi/keyval-coercion.ts';

const types: TypeModels = {
  str: { kind: 'builtin', name: 'str' },
  int: { kind: 'builtin', name: 'int' },
  uint8: { kind: 'builtin', name: 'uint8' },
  uint32: { kind: 'builtin', name: 'uint32' },
  uint64: { kind: 'builtin', name: 'uint64' },
  size: { kind: 'builtin', name: 'size' },
  bool: { kind: 'builtin', name: 'bool' },
  number: { kind: 'builtin', name: 'number' },
  Kind: { kind: 'enum', values: ['disk', 'tape'] },
  KindList: { kind: 'array', element: 'Kind' },
  RuleList: { kind: 'array', element: 'Rule' },
  Rule: { kind: 'struct', members: [member('match', 'str'), member('count', 'int', true)] },
  Disk: { kind: 'struct', members: [member('size', 'size', true), member('count', 'int', true)] },
  Tape: { kind: 'struct', members: [member('length', 'uint32')] },
  Reference: { kind: 'alternate', branches: { string: 'str', object: 'Rule' } },
  Options: {
    kind: 'union',
    members: [
      member('kind', 'Kind'),
      member('on', 'bool', true),
      member('small', 'uint8', true),
      member('large', 'uint64', true),
      member('ratio', 'number', true),
      member('file', 'Reference', true),
      member('rules', 'RuleList', true),
      member('kinds', 'KindList', true),
    ],
    tag: 'kind',
    variants: { disk: 'Disk', tape: 'Tape' },
  },
};

function member(name: string, type: string, optional = false) {
  return { name, type, optional };
}

const coerce = (text: string) => coerceKeyval(parseKeyval(text).values, 'Options', types);
const refused = (text: string) => {
  try {
    coerce(text);
  } catch (error) {
    return (error as Error).message;
  }
  return undefined;
};

describe('coerceKeyval', () => {
  it('gives strings the types of the schema', () => {
    expect(coerce('kind=disk,on=yes,size=4k,count=-0x10,small=010,ratio=1.5')).toEqual({
      kind: 'disk',
      on: true,
      size: 4096,
      count: -16,
      small: 8,
      ratio: 1.5,
    });
  });

  it('takes either branch of an alternate, and lists', () => {
    expect(coerce('kind=disk,file=a')).toMatchObject({ file: 'a' });
    expect(coerce('kind=disk,file.match=a')).toMatchObject({ file: { match: 'a' } });
    expect(coerce('kind=disk,kinds.0=tape,rules.0.match=x,rules.1.match=y')).toMatchObject({
      kinds: ['tape'],
      rules: [{ match: 'x' }, { match: 'y' }],
    });
  });

  it.each(['on', 'yes', 'true', 'y'])('takes %s for true', (word) => {
    expect(coerce(`kind=disk,on=${word}`)).toMatchObject({ on: true });
  });

  it.each([
    ['', `Parameter 'kind' is missing`],
    ['kind=floppy', `Parameter 'kind' does not accept value 'floppy'`],
    ['kind=disk,on=1', `Parameter 'on' expects 'on' or 'off'`],
    ['kind=disk,count=4k', `Parameter 'count' expects integer`],
    ['kind=disk,count=', `Parameter 'count' expects integer`],
    ['kind=disk,count=9223372036854775808', `Parameter 'count' expects integer`],
    ['kind=disk,size=4q', `Parameter 'size' expects size`],
    ['kind=disk,size=-1', `Parameter 'size' expects size`],
    ['kind=disk,small=256', `Parameter 'small' expects uint8_t`],
    ['kind=disk,ratio=x', `Invalid parameter type for 'ratio', expected: number`],
    ['kind=disk,small.x=1', `Parameters 'small.*' are unexpected`],
    ['kind.x=1', `Parameters 'kind.*' are unexpected`],
    ['kind=disk,rules=x', `Invalid parameter type for 'rules', expected: array`],
    ['kind=disk,rules.0=x', `Invalid parameter type for 'rules.0', expected: object`],
    ['kind=disk,rules.0.count=1', `Parameter 'rules.0.match' is missing`],
    ['kind=disk,rules.0.match=a,rules.0.x=1', `Parameter 'rules.0.x' is unexpected`],
    ['kind=disk,kinds.0=x', `Parameter 'null' does not accept value 'x'`],
    ['kind=disk,file.0=x', `Invalid parameter type for 'file', expected: Reference`],
    ['kind=tape', `Parameter 'length' is missing`],
    ['kind=tape,length=1,size=1', `Parameter 'size' is unexpected`],
  ])('refuses %s as the reference does', (text, message) => {
    expect(refused(text)).toBe(message);
  });

  it('reports the first fault in the order of the schema, not of the text', () => {
    expect(refused('bogus=1,count=x,kind=disk,on=z')).toBe(`Parameter 'on' expects 'on' or 'off'`);
  });

  it('refuses integers that a number does not hold', () => {
    expect(refused('kind=disk,large=-1')).toBe(
      `Parameter 'large' does not accept the value 18446744073709551615, it must be below 2^53`,
    );
  });
});
