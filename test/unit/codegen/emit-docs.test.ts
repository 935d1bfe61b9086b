// The manual of the project's own schema: complete, and without a link that leads nowhere.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DEFINED_SYMBOLS } from '../../../codegen/conditions.ts';
import { emitDocs } from '../../../codegen/emit-docs.ts';
import { manualText } from '../../../codegen/manual-text.ts';
import { loadSchema } from '../../../codegen/schema.ts';

const file = fileURLToPath(new URL('../../../qapi/qapi-schema.json', import.meta.url));
const schema = loadSchema(file, { defined: DEFINED_SYMBOLS });
const manual = emitDocs(schema);
const matches = (pattern: RegExp) => [...manual.matchAll(pattern)].map((match) => match[1] ?? '');

describe('the manual', () => {
  it('has an entry for every definition', () => {
    const anchors = matches(/<a id="qapi-([^"]+)">/g);
    expect(anchors.sort()).toEqual(schema.definitions.map(({ name }) => name).sort());
  });

  it('has no link that leads nowhere', () => {
    const headings = matches(/^#+ ([^`\n]+)$/gm).map((title) =>
      title.toLowerCase().replace(/ /g, '-'),
    );
    const targets = new Set([...matches(/<a id="([^"]+)">/g), ...headings]);
    const links = matches(/\]\(#([^)]+)\)/g);
    expect(links.length).toBeGreaterThan(100);
    expect(links.filter((link) => !targets.has(link))).toEqual([]);
  });

  it('closes every example', () => {
    expect(matches(/^(```)/gm).length % 2).toBe(0);
  });

  it('mentions only members that the definition or another one has', () => {
    for (const definition of schema.definitions) {
      const { doc, name } = definition;
      if (doc === undefined) continue;
      const texts = [
        doc.body,
        ...[...doc.members.values(), ...doc.features.values(), ...doc.sections].map(
          ({ text }) => text,
        ),
      ];
      const known = new Set([
        ...doc.members.keys(),
        ...schema.definitions.map((each) => each.name),
      ]);
      if (definition.kind === 'object') {
        for (const { name: member } of definition.members) known.add(member);
      }
      const mentions = [...texts.join('\n').matchAll(/(?:^|[\s(])@([A-Za-z_][\w-]*)/g)];
      const unknown = mentions.map((match) => match[1] ?? '').filter((each) => !known.has(each));
      expect({ name, unknown }).toEqual({ name, unknown: [] });
    }
  });
});

function manualOf(text: string): string {
  return emitDocs(loadSchema('a.json', { defined: new Set(), readText: () => text }));
}

describe('emitDocs', () => {
  it('tells what a command returns, be it that that is nothing', () => {
    const text = manualOf(`
{ 'struct': 'Flake', 'data': {} }
##
# @one:
#
# Returns: nothing
##
{ 'command': 'one' }
##
# @two:
#
# Returns: what there is
##
{ 'command': 'two', 'returns': ['Flake'] }
##
# @three:
##
{ 'command': 'three', 'returns': 'Flake' }
`);
    expect(text.match(/^\*\*Returns.*$/gm)).toEqual([
      '**Returns** nothing',
      '**Returns** array of [Flake](#qapi-Flake): what there is',
      '**Returns** [Flake](#qapi-Flake)',
    ]);
  });

  it('lists commands below the heading that they stand under', () => {
    const text = manualOf(`
##
# = Snow_flakes
##
##
# @one:
##
{ 'command': 'one' }
##
# == Of all kinds
##
##
# @two:
##
{ 'command': 'two' }
`);
    expect(text.slice(0, text.indexOf('<a '))).toContain(
      [
        '- [Snow_flakes](#snow_flakes)',
        '  - [one](#qapi-one)',
        '  - [Of all kinds](#of-all-kinds)',
        '    - [two](#qapi-two)',
      ].join('\n'),
    );
  });
});

describe('manualText', () => {
  const linkTo = (name: string) =>
    ['quit', 'blockdev-add', 'BlockInfo'].includes(name) ? `<${name}>` : undefined;
  const text = (source: string) => manualText(source, linkTo);

  it('links names of definitions', () => {
    expect(text('see blockdev-add, BlockInfo.')).toBe('see <blockdev-add>, <BlockInfo>.');
  });

  it('leaves a plain word alone, unless it is marked', () => {
    expect(text('quit means @quit')).toBe('quit means <quit>');
  });

  it('makes code of members', () => {
    expect(text('when @node-name is given (@id too)')).toBe('when `node-name` is given (`id` too)');
  });

  it('leaves code, options and parts of words alone', () => {
    expect(text('`blockdev-add` --blockdev-add x-blockdev-add')).toBe(
      '`blockdev-add` --blockdev-add x-blockdev-add',
    );
  });
});
