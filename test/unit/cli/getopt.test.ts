import { describe, expect, it } from 'vitest';
import { type OptionSpec, scanWords } from '../../../src/cli/getopt.ts';

const specs = [
  { name: 'blockdev', argument: 'required' },
  { name: 'daemonize', argument: 'none' },
  { name: 'help', short: 'h', argument: 'none' },
  { name: 'pidfile', argument: 'required' },
  { name: 'pid', argument: 'none' },
  { name: 'trace', short: 'T', argument: 'required' },
] as const satisfies readonly OptionSpec[];

const scan = (...words: string[]) => [...scanWords(words, specs)];
const errors = (...words: string[]) =>
  scan(...words).flatMap((word) => (word.kind === 'error' ? [word.message] : []));

describe('scanWords', () => {
  it('keeps options and words in their order, with the words that made them up', () => {
    expect(scan('--blockdev', 'x', 'foo', '--blockdev=y', '-T', 'a', '-Tb')).toMatchObject([
      { kind: 'option', name: 'blockdev', argument: 'x', location: '--blockdev x' },
      { kind: 'word', word: 'foo', location: 'foo' },
      { kind: 'option', name: 'blockdev', argument: 'y', location: '--blockdev=y' },
      { kind: 'option', name: 'trace', argument: 'a', location: '-T a' },
      { kind: 'option', name: 'trace', argument: 'b', location: '-Tb' },
    ]);
  });

  it('takes the next word as argument, whatever it looks like', () => {
    expect(scan('--blockdev', '--help')).toMatchObject([{ name: 'blockdev', argument: '--help' }]);
  });

  it('completes abbreviations, and prefers a whole name', () => {
    expect(scan('--bl', 'x', '--pid')).toMatchObject([
      { name: 'blockdev', argument: 'x', location: '--bl x' },
      { name: 'pid' },
    ]);
  });

  it('takes several letters behind one dash', () => {
    expect(scan('-hhTx')).toMatchObject([
      { name: 'help' },
      { name: 'help' },
      { name: 'trace', argument: 'x' },
    ]);
  });

  it('ends at two dashes', () => {
    expect(scan('--daemonize', '--', '--bogus', 'foo')).toHaveLength(1);
  });

  it('takes a single dash for a word', () => {
    expect(scan('-')).toEqual([{ kind: 'word', word: '-', location: '-' }]);
  });

  it.each([
    [['--bogus'], `unrecognized option '--bogus'`],
    [['--bogus=1'], `unrecognized option '--bogus=1'`],
    [['--blockdev'], `option '--blockdev' requires an argument`],
    [['--bl'], `option '--blockdev' requires an argument`],
    [['--daemonize=yes'], `option '--daemonize' doesn't allow an argument`],
    [['--pi'], `option '--pi' is ambiguous; possibilities: '--pidfile' '--pid'`],
    [['-x'], `invalid option -- 'x'`],
    [['-T'], `option requires an argument -- 'T'`],
  ])('says of %j what glibc says', (words, message) => {
    expect(errors(...words)).toEqual([message]);
  });
});
