// Names: which are too alike, and what becomes of them in TypeScript. Which are refused is in test/schema/errors/names.cases.

import { describe, expect, it } from 'vitest';
import { camelCase, clashKey } from '../../../codegen/names.ts';

describe('camelCase', () => {
  it.each([
    ['nbd-server-start', 'NbdServerStart'],
    ['block_resize', 'BlockResize'],
    ['BLOCK_EXPORT_DELETED', 'BlockExportDeleted'],
    ['quit', 'Quit'],
    ['x-debug-2', 'XDebug2'],
    ['__com.example_go', 'ComExampleGo'],
  ])('makes of %s %s', (name, expected) => {
    expect(camelCase(name)).toBe(expected);
  });
});

describe('clashKey', () => {
  it('does not tell - and . from _', () => {
    expect(clashKey('a-b.c')).toBe(clashKey('a_b_c'));
  });

  it('tells upper case from lower case', () => {
    expect(clashKey('a')).not.toBe(clashKey('A'));
  });
});
