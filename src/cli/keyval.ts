// QEMU's KEY=VALUE,... syntax: dotted keys make nested objects, numeric fragments make lists, `,,` stands for a comma, and
// the first parameter may leave out an implied key. Leaves are strings; keyval-coercion.ts gives them their types.

import { QmpError } from '../qapi/errors.ts';
import type { KeyvalObject, KeyvalValue } from '../qapi/keyval-coercion.ts';

export interface Keyval {
  readonly values: KeyvalObject;
  /** `help` or `?` stood among the parameters. */
  readonly help: boolean;
}

/** Longest key fragment in characters. */
const MAX_FRAGMENT = 127;
const MAX_INDEX = 2 ** 31 - 1;
const QAPI_NAME = /^(?:__[A-Za-z0-9.-]*_)?[A-Za-z][A-Za-z0-9_-]*/;

/** Parses `text`. Throws QmpError with the reference's texts. */
export function parseKeyval(text: string, impliedKey?: string): Keyval {
  const values = emptyObject();
  let help = false;
  let implied = impliedKey;
  for (let rest = text; rest !== ''; implied = undefined) {
    const length = rest.search(/[=,]|$/);
    const word = rest.slice(0, length);
    if (rest[length] === '=' || length === 0) {
      rest = takeParameter(values, rest, word);
    } else if (word === 'help' || word === '?') {
      help = true;
      rest = afterComma(rest, length);
    } else if (implied !== undefined) {
      put(values, implied, word, implied);
      rest = afterComma(rest, length);
    } else {
      rest = takeParameter(values, rest, word);
    }
  }
  return { values: listify(values, '') as KeyvalObject, help };
}

/** Stores `KEY=VALUE` from the start of `text`; returns what follows it. */
function takeParameter(values: KeyvalObject, text: string, key: string): string {
  const { parent, fragment } = openPath(values, key);
  if (text[key.length] !== '=') throw new QmpError(`Expected '=' after parameter '${key}'`);
  const { value, end } = unescapeValue(text, key.length + 1);
  put(parent, fragment, value, key);
  return text.slice(end);
}

/** Walks all but the last fragment of `key`, making objects on the way. */
function openPath(root: KeyvalObject, key: string): { parent: KeyvalObject; fragment: string } {
  let parent = root;
  let outer: string | undefined;
  for (let at = 0; ; ) {
    const fragment = fragmentAt(key, at);
    const after = at + fragment.length;
    if (fragment === '' || (after < key.length && key[after] !== '.')) {
      throw new QmpError(`Invalid parameter '${key}'`);
    }
    if (fragment.length > MAX_FRAGMENT) {
      const what = at !== 0 || after !== key.length ? 'Parameter fragment' : 'Parameter';
      throw new QmpError(`${what} '${fragment}' is too long`);
    }
    if (outer !== undefined) parent = enter(parent, outer, key.slice(0, at - 1));
    if (key[after] !== '.') return { parent, fragment };
    outer = fragment;
    at = after + 1;
  }
}

/** The longest valid fragment at `at`: an index, unless it is the first fragment, or a QAPI name; '' when there is none. */
function fragmentAt(key: string, at: number): string {
  const text = key.slice(at);
  if (at !== 0) {
    const digits = /^[0-9]+/.exec(text);
    if (digits) return digits[0];
  }
  return QAPI_NAME.exec(text)?.[0] ?? '';
}

/** Reads a value up to a single comma or the end; `,,` is a comma of the value. */
function unescapeValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  let at = start;
  while (at < text.length) {
    const comma = text.indexOf(',', at);
    if (comma < 0) return { value: value + text.slice(at), end: text.length };
    value += text.slice(at, comma);
    if (text[comma + 1] !== ',') return { value, end: comma + 1 };
    value += ',';
    at = comma + 2;
  }
  return { value, end: at };
}

function enter(parent: KeyvalObject, fragment: string, path: string): KeyvalObject {
  const old = parent[fragment];
  if (typeof old === 'string') throw inconsistent(path);
  if (old !== undefined) return old as KeyvalObject;
  const made = emptyObject();
  parent[fragment] = made;
  return made;
}

function put(parent: KeyvalObject, fragment: string, value: string, path: string): void {
  const old = parent[fragment];
  if (old !== undefined && typeof old !== 'string') throw inconsistent(path);
  parent[fragment] = value;
}

function inconsistent(path: string): QmpError {
  return new QmpError(`Parameters '${path}.*' used inconsistently`);
}

/** Turns each object whose keys are all indexes into a list. `path` ends in a dot unless it is empty. */
function listify(object: KeyvalObject, path: string): KeyvalValue {
  const keys = Object.keys(object);
  for (const key of keys) {
    const value = object[key];
    if (typeof value === 'object') object[key] = listify(value as KeyvalObject, `${path}${key}.`);
  }
  const indexes = keys.filter((key) => /^[0-9]+$/.test(key));
  if (indexes.length === 0) return object;
  if (indexes.length < keys.length) throw new QmpError(`Parameters '${path}*' used inconsistently`);
  const byIndex = new Map(
    indexes.map((key) => [Math.min(Number(key), MAX_INDEX), object[key]] as const),
  );
  const list: KeyvalValue[] = [];
  const highest = Math.max(...byIndex.keys());
  for (let index = 0; index <= highest; index++) {
    const element = byIndex.get(index);
    if (element === undefined) throw new QmpError(`Parameter '${path}${index}' missing`);
    list.push(element);
  }
  return list;
}

function afterComma(text: string, at: number): string {
  return text.slice(text[at] === ',' ? at + 1 : at);
}

function emptyObject(): KeyvalObject {
  return Object.create(null) as KeyvalObject;
}
