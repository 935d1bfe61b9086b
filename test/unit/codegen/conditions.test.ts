// `if` conditions: what they evaluate to, and what goes with what is not there.

import { describe, expect, it } from 'vitest';
import { isActive } from '../../../codegen/conditions.ts';
import type { Condition } from '../../../codegen/definitions.ts';
import { loadSchema } from '../../../codegen/schema.ts';

const symbol = (name: string): Condition => ({ kind: 'symbol', name });
const not = (operand: Condition): Condition => ({ kind: 'not', operand });
const all = (...operands: Condition[]): Condition => ({ kind: 'all', operands });
const any = (...operands: Condition[]): Condition => ({ kind: 'any', operands });

const load = (text: string, ...defined: string[]) =>
  loadSchema('main.json', { defined: new Set(defined), readText: () => text });

describe('isActive', () => {
  const defined = new Set(['A', 'B']);

  it.each([
    ['no condition', undefined, true],
    ['a symbol that is defined', symbol('A'), true],
    ['a symbol that is not', symbol('C'), false],
    ['not', not(symbol('C')), true],
    ['all, all defined', all(symbol('A'), symbol('B')), true],
    ['all, one missing', all(symbol('A'), symbol('C')), false],
    ['any, one defined', any(symbol('C'), symbol('B')), true],
    ['any, none defined', any(symbol('C'), symbol('D')), false],
    ['one inside the other', not(any(symbol('C'), not(all(symbol('A'), symbol('B'))))), true],
  ])('%s', (_, condition, expected) => {
    expect(isActive(condition, defined)).toBe(expected);
  });
});

describe('keepActive', () => {
  it('drops definitions, and what hangs on them', () => {
    const text = `
      { 'struct': 'Box', 'data': { }, 'if': 'A' }
      { 'command': 'go', 'data': { 'box': 'Box' }, 'if': 'A' }
      { 'event': 'GONE', 'if': 'A' }`;
    expect(load(text).definitions).toEqual([]);
    expect(load(text).types.has('Box')).toBe(false);
    expect(load(text, 'A').definitions.map(({ name }) => name)).toEqual(['Box', 'go', 'GONE']);
  });

  it('drops members, also those that come from a base', () => {
    const text = `
      { 'struct': 'Base', 'data': { 'a': 'int', 'b': { 'type': 'int', 'if': 'A' } } }
      { 'struct': 'Box', 'base': 'Base', 'data': { 'c': { 'type': 'int', 'if': 'B' } } }
      { 'command': 'go', 'data': { 'd': { 'type': 'int', 'if': 'B' }, 'e': 'int' } }`;
    const names = (...defined: string[]) => {
      const schema = load(text, ...defined);
      const box = schema.types.get('Box');
      if (box?.kind !== 'object') throw new Error('no Box');
      const args = schema.commands[0]?.argumentsType.members ?? [];
      return [...box.members, ...args].map(({ name }) => name).join('');
    };
    expect(names()).toBe('ae');
    expect(names('A')).toBe('abe');
    expect(names('A', 'B')).toBe('abcde');
  });

  it('drops the branch of a value that is dropped', () => {
    const text = `
      { 'enum': 'Kind', 'data': [ 'a', { 'name': 'b', 'if': 'A' } ] }
      { 'union': 'Thing', 'base': { 'kind': 'Kind' }, 'discriminator': 'kind', 'data': { } }`;
    const cases = (...defined: string[]) => {
      const thing = load(text, ...defined).types.get('Thing');
      return thing?.kind === 'object' ? thing.variants?.cases.map(({ name }) => name) : [];
    };
    expect(cases()).toEqual(['a']);
    expect(cases('A')).toEqual(['a', 'b']);
  });

  it('drops features of definitions, members and values', () => {
    const feature = "'features': [ 'x', { 'name': 'y', 'if': 'A' } ]";
    const text = `
      { 'enum': 'Kind', 'data': [ { 'name': 'a', ${feature} } ], ${feature} }
      { 'command': 'go', 'data': { 'k': { 'type': 'Kind', ${feature} } }, ${feature} }`;
    const schema = load(text);
    const kind = schema.types.get('Kind');
    if (kind?.kind !== 'enum') throw new Error('no Kind');
    const [go] = schema.commands;
    const lists = [kind, ...kind.values, go, ...(go?.argumentsType.members ?? [])];
    for (const each of lists) expect(each?.features.map(({ name }) => name)).toEqual(['x']);
  });

  it('checks what is not in this build all the same', () => {
    const text = "{ 'struct': 'Box', 'data': { 'a': 'Lid' }, 'if': 'A' }";
    expect(() => load(text)).toThrow("member 'a' uses unknown type 'Lid'");
  });
});
