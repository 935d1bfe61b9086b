// Whatever the text, the reader ends with a schema or with a SchemaError.

import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDocComments } from '../../../codegen/doc-comment.ts';
import { SchemaError } from '../../../codegen/errors.ts';
import { tokenize } from '../../../codegen/lexer.ts';
import { parseSchema } from '../../../codegen/parser.ts';
import { loadSchema } from '../../../codegen/schema.ts';
import { defaultPragma } from '../../../codegen/source-info.ts';

const everything = readFileSync(
  new URL('../../schema/good/everything.json', import.meta.url),
  'utf8',
);
const colours = readFileSync(new URL('../../schema/good/colours.json', import.meta.url), 'utf8');

function survives(text: string): boolean {
  const readText = (path: string) => (path === 'main.json' ? text : colours);
  try {
    loadSchema('main.json', { defined: new Set(), readText });
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    expect(error.message).toMatch(
      /^(?:In file included from .*:\d+:\n)*(?:.*: In .*:\n)?.*:\d+(?::\d+)?: ./,
    );
  }
  return true;
}

describe('a damaged schema', () => {
  const token = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    "'",
    'true',
    "'if'",
    "'data'",
    '##\n',
    '# @a:\n',
    '\\',
    '\t',
    'é',
  );

  it('with a piece replaced', () => {
    const damage = fc.tuple(fc.nat(everything.length), fc.nat(40), token);
    fc.assert(
      fc.property(damage, ([at, length, text]) =>
        survives(everything.slice(0, at) + text + everything.slice(at + length)),
      ),
      { numRuns: 300 },
    );
  });

  it('cut off anywhere', () => {
    const cut = fc.nat(everything.length);
    fc.assert(
      fc.property(cut, (at) => survives(everything.slice(0, at))),
      { numRuns: 100 },
    );
  });

  it('that is a heap of tokens', () => {
    const heap = fc.array(token, { maxLength: 30 });
    fc.assert(
      fc.property(heap, (tokens) => survives(tokens.join(' '))),
      { numRuns: 300 },
    );
  });
});

describe('parseSchema', () => {
  it('reads each file once, in the order of the first include', () => {
    const files: Record<string, string> = {
      'main.json': "{ 'include': 'b.json' } { 'include': 'a.json' } { 'command': 'z' }",
      'b.json': "{ 'include': 'a.json' } { 'command': 'y' }",
      'a.json': "{ 'command': 'x' }",
    };
    const { modules, expressions } = parseSchema('main.json', (path) => files[path] ?? '');
    expect(modules.map(({ file }) => file)).toEqual(['main.json', 'b.json', 'a.json']);
    expect(expressions.map(({ members }) => members.get('command')?.value)).toEqual([
      'x',
      'y',
      'z',
    ]);
  });

  it('keeps prose where it stands', () => {
    const text = "##\n# = One\n##\n\n##\n# @x:\n##\n{ 'command': 'x' }\n##\n# Two\n##\n";
    const [module] = parseSchema('main.json', () => text).modules;
    expect(module?.parts.map(({ kind }) => kind)).toEqual(['prose', 'expression', 'prose']);
  });
});

describe('parseDocComments', () => {
  const parse = (text: string) => {
    const lines = `##\n${text}\n##`;
    return parseDocComments(
      tokenize(lines, { file: 'x', line: 1, pragma: defaultPragma() }).slice(0, -1),
    );
  };

  it('splits a definition’s comment into its parts', () => {
    const [doc] = parse(`# @go:
#
# Goes.
#
# Far.
#
# @speed: how fast,
#     in knots
#
# @way:   which way,
#         aligned
#
# Afterwards.
#
# Note: one
# Example:
#
# -> go
#   <- gone
#
# Since: 1.0`);
    expect(doc?.symbol).toBe('go');
    expect(doc?.body).toBe('Goes.\n\nFar.');
    expect([...(doc?.members ?? [])].map(([name, { text }]) => [name, text])).toEqual([
      ['speed', 'how fast,\nin knots'],
      ['way', 'which way,\naligned'],
    ]);
    expect(doc?.sections.map(({ tag, text }) => [tag, text])).toEqual([
      [undefined, 'Afterwards.'],
      ['Note', 'one'],
      ['Example', '-> go\n  <- gone'],
      ['Since', '1.0'],
    ]);
  });

  it('starts a new comment at a heading in prose', () => {
    const docs = parse('# = One\n#\n# Text.\n#\n# == Two\n# More.');
    expect(docs.map(({ symbol, body }) => [symbol, body])).toEqual([
      [undefined, '= One\n\nText.'],
      [undefined, '== Two\nMore.'],
    ]);
  });
});
