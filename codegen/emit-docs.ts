// The QMP reference manual: Markdown, in the order of the schema, every mention of a definition a link to it.

import type { FeatureDefinition } from './definitions.ts';
import type { DocComment } from './doc-comment.ts';
import { documentedFeatures } from './documentation.ts';
import { unreachable } from './errors.ts';
import { manualText } from './manual-text.ts';
import type {
  Command,
  Definition,
  Event,
  Member,
  Module,
  ObjectType,
  Schema,
  Type,
} from './types.ts';

const TITLE = '# QMP reference manual\n';

/** The whole manual. */
export function emitDocs(schema: Schema): string {
  return new Manual(schema).text();
}

class Manual {
  readonly #schema: Schema;
  readonly #names: ReadonlySet<string>;

  constructor(schema: Schema) {
    this.#schema = schema;
    this.#names = new Set(schema.definitions.map((definition) => definition.name));
  }

  text(): string {
    const sections = this.#schema.modules.flatMap((module) => this.#module(module));
    return `${[TITLE, this.#contents(), ...sections, this.#index()].join('\n').trimEnd()}\n`;
  }

  /** The headings, with the commands and events below each. */
  #contents(): string {
    const lines: string[] = [];
    let depth = 0;
    for (const { parts } of this.#schema.modules) {
      for (const part of parts) {
        if (part.kind === 'prose') {
          for (const { level, title } of headings(part.doc)) {
            lines.push(`${'  '.repeat(level - 1)}- [${title}](#${anchorOfHeading(title)})`);
            depth = level;
          }
        } else if (part.kind === 'command' || part.kind === 'event') {
          lines.push(`${'  '.repeat(depth)}- ${this.#link(part.name)}`);
        }
      }
    }
    return `${lines.join('\n')}\n`;
  }

  #index(): string {
    const groups = [
      ['Commands', (definition: Definition) => definition.kind === 'command'],
      ['Events', (definition: Definition) => definition.kind === 'event'],
      ['Types', ({ kind }: Definition) => kind !== 'command' && kind !== 'event'],
    ] as const;
    const lines = groups.map(([title, belongs]) => {
      const names = this.#schema.definitions.filter(belongs).map(({ name }) => name);
      return `${title}: ${names
        .sort()
        .map((name) => this.#link(name))
        .join(', ')}\n`;
    });
    return ['## Index\n', ...lines].join('\n');
  }

  #module({ parts }: Module): string[] {
    return parts.map((part) => {
      if (part.kind === 'prose') return this.#prose(part.doc);
      return this.#definition(part);
    });
  }

  #prose({ body }: DocComment): string {
    const lines = body.split('\n').map((line) => {
      const heading = /^(=+) (.*)$/.exec(line);
      return heading === null ? line : `${'#'.repeat((heading[1]?.length ?? 0) + 1)} ${heading[2]}`;
    });
    return `${this.#linked(lines.join('\n'))}\n`;
  }

  #definition(definition: Definition): string {
    const { name, doc } = definition;
    const parts = [`<a id="${anchor(name)}"></a>\n\n### ${titleOf(definition)} \`${name}\`\n`];
    if (doc !== undefined && doc.body !== '') parts.push(`${this.#linked(doc.body)}\n`);
    parts.push(...this.#details(definition));
    parts.push(...this.#features(definition));
    for (const { tag, text } of doc?.sections ?? []) {
      if (tag === 'Returns' || tag === 'Since' || tag === 'TODO') continue;
      if (tag === 'Example' || tag === 'Examples')
        parts.push(`**${tag}**\n\n\`\`\`\n${text}\n\`\`\`\n`);
      else parts.push(`${tag === undefined ? '' : `**${tag}**: `}${this.#linked(text)}\n`);
    }
    const since = doc?.sections.find((section) => section.tag === 'Since');
    if (since !== undefined) parts.push(`*Since ${since.text}*\n`);
    return parts.join('\n');
  }

  #details(definition: Definition): string[] {
    switch (definition.kind) {
      case 'enum': {
        const rows = definition.values.map(({ name, features }) =>
          this.#row(`\`${name}\`${flags([], features)}`, definition.doc?.members.get(name)?.text),
        );
        return list('Values', rows);
      }
      case 'alternate': {
        const rows = definition.branches.map(({ name, type }) =>
          this.#row(this.#typeLink(type), definition.doc?.members.get(name)?.text),
        );
        return list('One of', rows);
      }
      case 'object':
        return list('Members', this.#memberRows(definition));
      case 'command':
        return [...list('Arguments', this.#argumentRows(definition)), ...this.#returns(definition)];
      case 'event':
        return list('Data', this.#argumentRows(definition));
      default:
        return unreachable(definition);
    }
  }

  #argumentRows(definition: Command | Event): string[] {
    const type = definition.kind === 'command' ? definition.argumentsType : definition.dataType;
    if (type.origin === 'empty') return [];
    if (type.origin === 'arguments') return this.#memberRows(type);
    return [`- the members of ${this.#typeLink(type)}`];
  }

  #memberRows(type: ObjectType): string[] {
    const { base, ownMembers, variants } = type;
    const inherited = base?.origin === 'base' ? base.ownMembers : [];
    const rows = [...inherited, ...ownMembers].map((member) => this.#memberRow(member));
    if (base?.origin === 'definition') rows.unshift(`- the members of ${this.#typeLink(base)}`);
    for (const { name, type: variant } of variants?.cases ?? []) {
      if (variant.origin === 'empty') continue;
      const tag = variants?.tag.name ?? '';
      rows.push(`- if \`${tag}\` is \`${name}\`: the members of ${this.#typeLink(variant)}`);
    }
    return rows;
  }

  #memberRow(member: Member): string {
    const { name, type, optional, features, definedIn } = member;
    const words = [this.#typeLink(type), ...(optional ? ['optional'] : [])];
    return this.#row(
      `\`${name}\`${flags(words, features)}`,
      definedIn.doc?.members.get(name)?.text,
    );
  }

  #row(head: string, text: string | undefined): string {
    if (text === undefined) return `- ${head}`;
    return `- ${head}: ${this.#linked(text).replace(/\n(?=.)/g, '\n  ')}`;
  }

  #returns({ returns, doc }: Command): string[] {
    const text = doc?.sections.find((section) => section.tag === 'Returns')?.text;
    const parts = [
      ...(returns === undefined ? [] : [this.#typeLink(returns)]),
      ...(text === undefined ? [] : [this.#linked(text)]),
    ];
    return parts.length === 0 ? [] : [`**Returns** ${parts.join(': ')}\n`];
  }

  #features(definition: Definition): string[] {
    const rows = documentedFeatures(definition).map((name) =>
      this.#row(`\`${name}\``, definition.doc?.features.get(name)?.text),
    );
    return list('Features', rows);
  }

  #typeLink(type: Type): string {
    switch (type.kind) {
      case 'builtin':
        return BUILTIN_WORDS[type.name];
      case 'array':
        return `array of ${this.#typeLink(type.element)}`;
      case 'enum':
      case 'alternate':
      case 'object':
        return this.#link(type.name);
      default:
        return unreachable(type);
    }
  }

  #link(name: string): string {
    return `[${name}](#${anchor(name)})`;
  }

  #linked(text: string): string {
    return manualText(text, (name) => (this.#names.has(name) ? this.#link(name) : undefined));
  }
}

const BUILTIN_WORDS = {
  str: 'string',
  number: 'number',
  int: 'integer',
  int8: '8-bit integer',
  int16: '16-bit integer',
  int32: '32-bit integer',
  int64: '64-bit integer',
  uint8: 'unsigned 8-bit integer',
  uint16: 'unsigned 16-bit integer',
  uint32: 'unsigned 32-bit integer',
  uint64: 'unsigned 64-bit integer',
  size: 'size in bytes',
  bool: 'boolean',
  any: 'any value',
  null: 'null',
} as const;

function list(title: string, rows: readonly string[]): string[] {
  return rows.length === 0 ? [] : [`**${title}**\n\n${rows.join('\n')}\n`];
}

function flags(words: readonly string[], features: readonly FeatureDefinition[]): string {
  const all = [...words, ...features.map((feature) => feature.name)];
  return all.length === 0 ? '' : ` (${all.join(', ')})`;
}

function titleOf(definition: Definition): string {
  switch (definition.kind) {
    case 'command':
      return 'Command';
    case 'event':
      return 'Event';
    case 'enum':
      return 'Enumeration';
    case 'alternate':
      return 'Alternate';
    case 'object':
      return definition.meta === 'union' ? 'Union' : 'Object';
    default:
      return unreachable(definition);
  }
}

function anchor(name: string): string {
  return `qapi-${name}`;
}

function headings({ body }: DocComment) {
  return body.split('\n').flatMap((line) => {
    const heading = /^(=+) (.*)$/.exec(line);
    return heading === null ? [] : [{ level: heading[1]?.length ?? 1, title: heading[2] ?? '' }];
  });
}

/** As Markdown renderers make anchors of headings. */
function anchorOfHeading(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^a-z0-9_ -]/g, '')
    .replace(/ /g, '-');
}
