// Schema text to tokens. The language is a small JSON dialect: single-quoted strings of printable ASCII, true, false,
// punctuation, comments from '#' to the end of the line. '##' opens and closes a documentation comment.

import { SchemaError } from './errors.ts';
import type { SourceInfo } from './source-info.ts';

export type TokenKind =
  | '{'
  | '}'
  | '['
  | ']'
  | ':'
  | ','
  | 'string'
  | 'boolean'
  | 'comment'
  | 'end';

export interface Token {
  readonly kind: TokenKind;
  readonly info: SourceInfo;
  /** 1-based; a tab moves to the next multiple of 8. */
  readonly column: number;
  /** String contents, comment line with its '#', or the spelling of anything else. */
  readonly text: string;
}

const TAB_WIDTH = 8;
const PUNCTUATION = '{}[]:,';
const WORDS = ['true', 'false'];

/** All tokens of one file, the last of kind 'end'. Comments appear only inside documentation comments. */
export function tokenize(source: string, start: SourceInfo): Token[] {
  const tokens: Token[] = [];
  let inDoc = false;
  source.split('\n').forEach((line, index) => {
    const info = { ...start, line: start.line + index };
    let at = 0;
    while (at < line.length) {
      const char = line.charAt(at);
      if (char === ' ' || char === '\t' || char === '\r' || char === '\f' || char === '\v') {
        at += 1;
        continue;
      }
      const column = columnOf(line, at);
      if (char === '#') {
        const text = line.slice(at).trimEnd();
        if (inDoc || text.startsWith('##')) {
          tokens.push({ kind: 'comment', info, column, text });
          inDoc = inDoc ? !text.startsWith('##') : true;
        }
        break;
      }
      // Only comment lines belong to a documentation comment: the parser reports the one that was left open.
      inDoc = false;
      const token = nextToken(line, at, info, column);
      tokens.push(token.token);
      at = token.end;
    }
  });
  const last = { ...start, line: start.line + Math.max(0, source.split('\n').length - 1) };
  tokens.push({ kind: 'end', info: last, column: 1, text: '' });
  return tokens;
}

function nextToken(line: string, at: number, info: SourceInfo, column: number) {
  const char = line.charAt(at);
  if (PUNCTUATION.includes(char)) {
    return { token: { kind: char as TokenKind, info, column, text: char }, end: at + 1 };
  }
  if (char === "'") {
    const { text, end } = readString(line, at, info, column);
    return { token: { kind: 'string' as const, info, column, text }, end };
  }
  const word = WORDS.find((candidate) => line.startsWith(candidate, at));
  if (word !== undefined) {
    return { token: { kind: 'boolean' as const, info, column, text: word }, end: at + word.length };
  }
  const stray = /^[^[\]{}:,\s'"]+/.exec(line.slice(at))?.[0] ?? char;
  throw new SchemaError(info, `stray '${stray}'`, column);
}

function readString(line: string, at: number, info: SourceInfo, column: number) {
  let text = '';
  for (let next = at + 1; next < line.length; next += 1) {
    let char = line.charAt(next);
    if (char === "'") return { text, end: next + 1 };
    if (char === '\\') {
      next += 1;
      char = line.charAt(next);
      if (char !== '\\') {
        throw new SchemaError(info, `unknown escape '\\${char}' in a string`, columnOf(line, next));
      }
    }
    if (char < ' ' || char > '~') {
      throw new SchemaError(info, 'a string may hold printable ASCII only', columnOf(line, next));
    }
    text += char;
  }
  throw new SchemaError(info, "string has no closing '", column);
}

function columnOf(line: string, at: number): number {
  let column = 1;
  for (let index = 0; index < at; index += 1) {
    column = line[index] === '\t' ? column + TAB_WIDTH - ((column - 1) % TAB_WIDTH) : column + 1;
  }
  return column;
}
