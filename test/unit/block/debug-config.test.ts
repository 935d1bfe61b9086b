import { describe, expect, it } from 'vitest';
import { debugConfig } from '../../../src/block/debug-config.ts';

/** A rule with `value` as its option `name`. */
function ruleWith(name: string, value: string): string {
  return `[inject-error]\nevent = "read_aio"\n${name} = "${value}"\n`;
}

describe('debugConfig', () => {
  it('reads rules of both kinds', () => {
    const text = `# What happens\n${ruleWith('once', 'on')}\n[set-state]\nevent = "flush_to_os"\nstate = "2"\nnew_state = "3"\n`;
    expect(debugConfig(text)).toEqual({
      injectError: [{ event: 'read_aio', once: true }],
      setState: [{ event: 'flush_to_os', state: 2, new_state: 3 }],
    });
  });

  it.each([
    ['5', 5],
    ['0x10', 16],
    ['010', 8],
    [' 7', 7],
    ['-1', -1],
    ['4294967297', 1],
  ])('takes the number "%s" for %i', (text, number) => {
    expect(debugConfig(ruleWith('errno', text)).injectError).toEqual([
      { event: 'read_aio', errno: number },
    ]);
  });

  it('knows sectors beyond 2^32', () => {
    const { injectError } = debugConfig(ruleWith('sector', '4294967297'));
    expect(injectError).toEqual([{ event: 'read_aio', sector: 2 ** 32 + 1 }]);
  });

  it.each(['', 'x', '1e3', '5 ', '1.0', '0b1', '08'])('takes "%s" for no number', (text) => {
    expect(() => debugConfig(ruleWith('errno', text))).toThrow(
      "Parameter 'errno' expects a number",
    );
  });

  it('refuses a number that is too large', () => {
    expect(() => debugConfig(ruleWith('errno', '99999999999999999999'))).toThrow(
      "Value '99999999999999999999' is too large for parameter 'errno'",
    );
  });

  it.each(['nope', 'constructor', '__proto__'])('knows no group %s', (group) => {
    expect(() => debugConfig(`[${group}]\n`)).toThrow(`There is no option group '${group}'`);
  });

  it.each(['nope', 'constructor', '__proto__'])('knows no option %s', (name) => {
    expect(() => debugConfig(ruleWith(name, '1'))).toThrow(`Invalid parameter '${name}'`);
  });
});
