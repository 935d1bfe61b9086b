// Tokens to top-level expressions, following includes and obeying pragmas.

import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type DocComment, parseDocComments } from './doc-comment.ts';
import { SchemaError } from './errors.ts';
import { type Token, tokenize } from './lexer.ts';
import { applyPragma } from './pragma.ts';
import { defaultPragma, type Node, type ObjectNode, type SourceInfo } from './source-info.ts';

export interface Expression {
  readonly info: SourceInfo;
  readonly members: ObjectNode;
  readonly doc: DocComment | undefined;
}

/** One schema file, in the order in which files are first included. */
export interface ParsedModule {
  readonly file: string;
  /** What stands in the file, in order: free-form documentation, includes, definitions. */
  readonly parts: readonly ModulePart[];
}

export type ModulePart =
  | { readonly kind: 'prose'; readonly doc: DocComment }
  | { readonly kind: 'include'; readonly file: string }
  | { readonly kind: 'expression'; readonly expression: Expression };

export interface ParsedSchema {
  readonly modules: readonly ParsedModule[];
  /** Every definition, an include's where the include stands. */
  readonly expressions: readonly Expression[];
}

/** Reads a schema and everything it includes. Throws SchemaError. */
export function parseSchema(
  file: string,
  readText = (path: string): string => readFileSync(path, 'utf8'),
): ParsedSchema {
  const modules: ParsedModule[] = [];
  const expressions: Expression[] = [];
  const seen = new Set<string>();
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    throw new SchemaError(undefined, `can't read schema file '${file}': ${reason(error)}`);
  }
  parseFile(text, { file, line: 1, pragma: defaultPragma() });
  return { modules, expressions };

  function parseFile(source: string, start: SourceInfo): void {
    seen.add(resolve(start.file));
    const parts: ModulePart[] = [];
    modules.push({ file: start.file, parts });
    const reader = new TokenReader(tokenize(source, start));
    let doc: DocComment | undefined;
    while (reader.peek().kind !== 'end') {
      const token = reader.peek();
      if (token.kind === 'comment') {
        rejectLoose(doc);
        doc = undefined;
        for (const each of parseDocComments(reader.docLines())) {
          if (each.symbol === undefined) parts.push({ kind: 'prose', doc: each });
          doc = each;
        }
        continue;
      }
      const node = reader.value();
      if (!(node.value instanceof Map)) {
        throw new SchemaError(token.info, 'a top-level expression must be an object');
      }
      const members: ObjectNode = node.value;
      if (members.has('include')) {
        rejectLoose(doc);
        parts.push({ kind: 'include', file: include(members, token.info) });
      } else if (members.has('pragma')) {
        rejectLoose(doc);
        applyPragma(members, token.info);
      } else {
        if (doc !== undefined && doc.symbol === undefined) {
          throw new SchemaError(
            doc.info,
            "the comment before a definition must name it, as in '@Name:'",
          );
        }
        const expression = { info: token.info, members, doc };
        expressions.push(expression);
        parts.push({ kind: 'expression', expression });
      }
      doc = undefined;
    }
    rejectLoose(doc);
  }

  function include(members: ObjectNode, info: SourceInfo): string {
    const name = members.get('include')?.value;
    if (members.size !== 1) throw new SchemaError(info, "an 'include' stands alone");
    if (typeof name !== 'string') {
      throw new SchemaError(info, "the value of 'include' must be a string");
    }
    const path = join(dirname(info.file), name);
    for (let from: SourceInfo | undefined = info; from !== undefined; from = from.includedFrom) {
      if (resolve(from.file) === resolve(path)) {
        throw new SchemaError(info, `'${name}' includes itself`);
      }
    }
    if (seen.has(resolve(path))) return path;
    let source: string;
    try {
      source = readText(path);
    } catch (error) {
      throw new SchemaError(info, `can't read include file '${path}': ${reason(error)}`);
    }
    parseFile(source, { file: path, line: 1, pragma: info.pragma, includedFrom: info });
    return path;
  }
}

class TokenReader {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  peek(): Token {
    const token = this.#tokens[this.#at];
    if (token === undefined) throw new Error('read past the last token');
    return token;
  }

  next(): Token {
    const token = this.peek();
    this.#at += 1;
    return token;
  }

  /** The lines of one documentation comment, from its opening '##' to its closing one. */
  docLines(): Token[] {
    const first = this.next();
    if (first.text !== '##') fail(first, "junk after '##' at the start of a documentation comment");
    const lines = [first];
    while (this.peek().kind === 'comment') {
      const line = this.next();
      lines.push(line);
      if (!line.text.startsWith('##')) continue;
      if (line.text !== '##') fail(line, "junk after '##' at the end of a documentation comment");
      return lines;
    }
    return fail(this.peek(), "documentation comment must end with '##'");
  }

  /** `otherwise`: what else may stand there, for the message. */
  value(otherwise = ''): Node {
    const token = this.next();
    const { kind, info, text } = token;
    if (kind === '{') return { info, value: this.#members() };
    if (kind === '[') return { info, value: this.#elements() };
    if (kind === 'string') return { info, value: text };
    if (kind === 'boolean') return { info, value: text === 'true' };
    return fail(token, `expected '{', '[', ${otherwise}a string or a boolean`);
  }

  #members(): ObjectNode {
    const members = new Map<string, Node>();
    if (this.peek().kind === '}') {
      this.next();
      return members;
    }
    for (;;) {
      const key = this.next();
      if (key.kind !== 'string')
        fail(key, members.size === 0 ? "expected a string or '}'" : 'expected a string');
      const colon = this.next();
      if (colon.kind !== ':') fail(colon, "expected ':'");
      if (members.has(key.text)) fail(key, `duplicate key '${key.text}'`);
      members.set(key.text, { ...this.value(), info: key.info });
      const after = this.next();
      if (after.kind === '}') return members;
      if (after.kind !== ',') fail(after, "expected ',' or '}'");
    }
  }

  #elements(): readonly Node[] {
    const elements: Node[] = [];
    if (this.peek().kind === ']') {
      this.next();
      return elements;
    }
    for (;;) {
      elements.push(this.value(elements.length === 0 ? "']', " : ''));
      const after = this.next();
      if (after.kind === ']') return elements;
      if (after.kind !== ',') fail(after, "expected ',' or ']'");
    }
  }
}

function fail(token: Token, text: string): never {
  throw new SchemaError(token.info, text, token.column);
}

function rejectLoose(doc: DocComment | undefined): void {
  if (doc?.symbol === undefined) return;
  throw new SchemaError(
    doc.info,
    `the definition of '${doc.symbol}' must follow its documentation`,
  );
}

function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'No such file or directory';
  if (code === 'EISDIR') return 'Is a directory';
  if (code === 'EACCES') return 'Permission denied';
  return error instanceof Error ? error.message : String(error);
}
