// Documentation comments: lines between '##' and '##'. One that begins with '@Name:' documents the definition that follows
// it: a body, '@member:' sections, a 'Features:' list, then tagged sections and loose paragraphs. Any other is prose.

import { SchemaError } from './errors.ts';
import type { Token } from './lexer.ts';
import type { SourceInfo } from './source-info.ts';

const SECTION_TAGS = ['Returns', 'Since', 'Note', 'Notes', 'Example', 'Examples', 'TODO'] as const;
export type SectionTag = (typeof SECTION_TAGS)[number];

export interface DocSection {
  readonly info: SourceInfo;
  /** Lines without their common indentation, joined by newlines; blank lines at both ends removed. */
  readonly text: string;
}

export interface TaggedSection extends DocSection {
  /** Absent for a loose paragraph after the members. */
  readonly tag: SectionTag | undefined;
}

export interface DocComment {
  readonly info: SourceInfo;
  /** The definition that is documented; absent for prose. */
  readonly symbol: string | undefined;
  readonly body: string;
  readonly members: ReadonlyMap<string, DocSection>;
  readonly features: ReadonlyMap<string, DocSection>;
  readonly sections: readonly TaggedSection[];
}

/** What the next lines belong to. */
type Mode = 'start' | 'prose' | 'body' | 'members' | 'features' | 'sections';

interface OpenSection {
  readonly token: Token;
  readonly what: string;
  /** '@name:' stands alone: its text may begin at the margin, up to the first blank line there. */
  below?: boolean;
  /** Columns by which every further line must be indented; the first further line decides while undefined. */
  indent: number | undefined;
  readonly lines: string[];
  readonly close: (section: DocSection) => void;
  readonly mayBeEmpty: boolean;
}

/** Parses one comment, given with its delimiters. A '=' heading inside prose starts a new comment. */
export function parseDocComments(tokens: readonly Token[]): DocComment[] {
  const docs: DocComment[] = [];
  const [first, ...rest] = tokens;
  if (first === undefined) return docs;
  let builder = new DocBuilder(first);
  for (const token of rest.slice(0, -1)) {
    if (token.text.startsWith('# =')) {
      if (builder.isDefinition) {
        fail(token, "a '=' heading cannot stand in a definition's documentation");
      }
      if (!builder.isEmpty) {
        docs.push(builder.finish());
        builder = new DocBuilder(token);
      }
    }
    builder.line(token);
  }
  docs.push(builder.finish());
  return docs;
}

class DocBuilder {
  readonly #first: Token;
  #mode: Mode = 'start';
  #symbol: string | undefined;
  #body = '';
  readonly #members = new Map<string, DocSection>();
  readonly #features = new Map<string, DocSection>();
  readonly #sections: TaggedSection[] = [];
  #open: OpenSection;

  constructor(first: Token) {
    this.#first = first;
    this.#open = this.#bodySection();
  }

  get isDefinition(): boolean {
    return this.#symbol !== undefined;
  }

  get isEmpty(): boolean {
    return this.#mode === 'start';
  }

  finish(): DocComment {
    this.#close();
    return {
      info: this.#first.info,
      symbol: this.#symbol,
      body: this.#body,
      members: this.#members,
      features: this.#features,
      sections: this.#sections,
    };
  }

  line(token: Token): void {
    const raw = token.text.slice(1);
    if (raw === '') {
      if (this.#mode !== 'start') this.#open.lines.push('');
      return;
    }
    if (!raw.startsWith(' ')) fail(token, "a space must follow '#'");
    const line = raw.slice(1);
    if (this.#mode === 'start') {
      if (!line.startsWith('@')) this.#mode = 'prose';
      else return this.#nameDefinition(token, line);
    }
    if (this.#mode === 'prose') return this.#append(token, line);
    this.#definitionLine(token, line);
  }

  #nameDefinition(token: Token, line: string): void {
    if (!line.endsWith(':')) fail(token, "the line that names the definition must end with ':'");
    const symbol = line.slice(1, -1);
    if (symbol === '') fail(token, "a name must follow '@'");
    this.#symbol = symbol;
    this.#mode = 'body';
  }

  #definitionLine(token: Token, line: string): void {
    const member = /^@(\S*):(?:\s+|$)/.exec(line);
    if (member !== null) return this.#startMember(token, line, member[1] ?? '', member[0].length);
    const tag = SECTION_TAGS.find((each) => line === `${each}:` || line.startsWith(`${each}: `));
    if (tag !== undefined) return this.#startSection(token, line, tag);
    if (line === 'Features:') return this.#startFeatures(token);
    const indented = /^\s/.test(line);
    const afterBlank = this.#open.lines.at(-1) === '';
    // Text at the margin ends whatever is indented.
    if (!indented && afterBlank && (this.#open.indent !== 0 || this.#open.below === true)) {
      this.#startSection(token, line, undefined);
    } else {
      this.#append(token, line);
    }
  }

  #startMember(token: Token, line: string, name: string, indent: number): void {
    if (this.#mode === 'sections') fail(token, `'@${name}:' cannot follow a section`);
    if (name === '') fail(token, "a name must follow '@'");
    const features = this.#mode === 'features';
    const target = features ? this.#features : this.#members;
    if (target.has(name)) {
      fail(token, `${features ? 'feature' : 'member'} '${name}' is documented twice`);
    }
    if (!features) this.#mode = 'members';
    this.#start(token, line, indent, `'@${name}:'`, (section) => target.set(name, section));
    this.#open.below = line.length === indent;
    // Holds the place, so that a second one is found although the section is still open.
    target.set(name, { info: token.info, text: '' });
  }

  #startSection(token: Token, line: string, tag: SectionTag | undefined): void {
    if (tag === 'Returns' || tag === 'Since') {
      if (this.#sections.some((each) => each.tag === tag) || this.#open.what === `'${tag}:'`) {
        fail(token, `second '${tag}:' section`);
      }
    }
    this.#mode = 'sections';
    if (tag === undefined) {
      this.#begin({
        token,
        what: 'paragraph',
        indent: 0,
        close: (section) => this.#add(section, tag),
      });
      return this.#append(token, line);
    }
    const header = /^\S*:\s*/.exec(line)?.[0].length ?? 0;
    this.#start(token, line, header, `'${tag}:'`, (section) => this.#add(section, tag));
    // An example under its tag stands at the margin.
    if (line.length === header) this.#open.indent = 0;
  }

  #add(section: DocSection, tag: SectionTag | undefined): void {
    this.#sections.push({ ...section, tag });
  }

  #startFeatures(token: Token): void {
    if (this.#mode === 'sections') fail(token, "'Features:' cannot follow a section");
    this.#mode = 'features';
    const close = ({ text }: DocSection) => {
      if (text !== '') fail(token, "'Features:' must be followed by '@name:' lines");
    };
    this.#begin({ token, what: "'Features:'", indent: 0, close, mayBeEmpty: true });
  }

  #start(
    token: Token,
    line: string,
    header: number,
    what: string,
    close: (section: DocSection) => void,
  ): void {
    this.#begin({ token, what, indent: undefined, close });
    const text = line.slice(header).trimEnd();
    if (text !== '') this.#open.lines.push(text);
  }

  #begin(section: Omit<OpenSection, 'lines' | 'mayBeEmpty'> & { mayBeEmpty?: boolean }): void {
    this.#close();
    this.#open = { mayBeEmpty: false, ...section, lines: [] };
  }

  #append(token: Token, line: string): void {
    const stray = /^@\S+:/.exec(line);
    if (stray !== null) fail(token, `'${stray[0]}' does not belong in prose`);
    const indent = line.trim() === '' ? undefined : line.length - line.trimStart().length;
    if (indent !== undefined) {
      this.#open.indent ??= this.#open.below === true ? indent : Math.max(indent, 1);
      if (indent < this.#open.indent) {
        fail(token, `line must be indented by at least ${spaces(this.#open.indent)}`);
      }
    }
    this.#open.lines.push(line.slice(this.#open.indent ?? 0).trimEnd());
  }

  #close(): void {
    const { token, what, lines, close, mayBeEmpty } = this.#open;
    const text = lines.join('\n').replace(/^\n+|\n+$/g, '');
    if (text === '' && !mayBeEmpty) fail(token, `${what} has no text`);
    close({ info: token.info, text });
  }

  #bodySection(): OpenSection {
    const close = ({ text }: DocSection) => {
      this.#body = text;
    };
    return { token: this.#first, what: 'body', indent: 0, lines: [], close, mayBeEmpty: true };
  }
}

function spaces(count: number): string {
  return count === 1 ? '1 space' : `${count} spaces`;
}

function fail(token: Token, text: string): never {
  throw new SchemaError(token.info, text, token.column);
}
