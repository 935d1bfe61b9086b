import { describe, expect, it } from 'vitest';
import { globMatches } from '../../../src/base/glob.ts';

describe('globMatches', () => {
  it.each([
    ['*', '', true],
    ['*', 'anything/with:all', true],
    ['nbd_*', 'nbd_receive_request', true],
    ['nbd_*', 'xnbd_', false],
    ['*request', 'nbd_receive_request', true],
    ['a?c', 'abc', true],
    ['a?c', 'ac', false],
    ['?', '😀', true],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-b-b', false],
    ['CN=*,O=(x)', 'CN=joe,O=(x)', true],
    ['[a]', 'a', false],
    ['', '', true],
    ['', 'a', false],
    ['a', '', false],
  ])('%j with %j: %s', (pattern, text, matches) => {
    expect(globMatches(pattern, text)).toBe(matches);
  });

  it('stays fast with many stars', () => {
    expect(globMatches('*a'.repeat(50), 'a'.repeat(10_000) + 'b')).toBe(false);
  });
});
