import { describe, expect, it } from 'vitest';
import { flatten, takeBelow, unflatten } from '../../../src/block/flat-options.ts';

describe('flatten', () => {
  it('joins names with dots', () => {
    expect(flatten({ a: 1, b: { c: { d: 'x' }, e: true } })).toEqual({
      a: 1,
      'b.c.d': 'x',
      'b.e': true,
    });
  });

  it('keeps what has no members under its own name, and names elements by their place', () => {
    expect(flatten({ cache: {}, backing: null, none: [], list: [1, { a: 2 }] })).toEqual({
      cache: {},
      backing: null,
      none: [],
      'list.0': 1,
      'list.1.a': 2,
    });
  });

  it('has what is said of a whole count more than what is said of its parts', () => {
    expect(unflatten({ 'file.driver': 'file', file: 'f', 'file.cache.direct': true })).toEqual({
      file: 'f',
    });
    expect(unflatten({ cache: {}, 'cache.direct': true })).toEqual({ cache: { direct: true } });
  });

  it('is undone by unflatten', () => {
    const options = { driver: 'raw', file: { driver: 'file', cache: { direct: true } }, size: 5 };
    expect(unflatten(flatten(options))).toEqual(options);
  });
});

describe('takeBelow', () => {
  it('takes out what is below a name, and nothing that only begins like it', () => {
    const flat = { 'file.driver': 'file', 'file.cache.direct': true, 'file-x': 1, file: 'f' };
    expect(takeBelow(flat, 'file')).toEqual({ driver: 'file', 'cache.direct': true });
    expect(flat).toEqual({ 'file-x': 1, file: 'f' });
  });
});
