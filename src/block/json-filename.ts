// File names that are options: `json:{...}`. Members may be nested or flat (`file.filename`), values may be strings (`"on"`,
// `"64k"`), and what is left out is found as for a file name: the driver of a file, the format of an image.

import { parseSizeText } from '../base/number-text.ts';
import { QmpError } from '../qapi/errors.ts';
import type { BlockdevDriver, BlockdevOptions } from '../qapi/generated/types.ts';
import { JsonDouble } from '../qapi/json-double.ts';
import { parseJson } from '../qapi/json-stream.ts';
import type { JsonValue } from '../qapi/json-value.ts';
import {
  coerceKeyval,
  type KeyvalObject,
  type KeyvalValue,
  type TypeModels,
} from '../qapi/keyval-coercion.ts';
import { membersInOrder } from '../qapi/member-order.ts';
import type { BlockDriver } from './block-driver.ts';
import { flatten } from './flat-options.ts';
import { pathOptions } from './open-filename.ts';
import { noteSpelling } from './option-spelling.ts';
import { checkSize } from './size-option.ts';

export interface JsonFilenameContext {
  readonly driver: (name: BlockdevDriver) => BlockDriver;
  /** The format of what a node of these options, or of that name, holds. Throws QmpError when it cannot be found out. */
  format(file: BlockdevOptions | string): BlockdevDriver;
}

export interface JsonFilenamePlace {
  /** What a name without a driver stands for: a file, or an image whose format is to be found out. */
  readonly level: Level;
  /** A driver that is known from elsewhere; the name's own does not count then. */
  readonly driver?: string | undefined;
}

type Level = 'image' | 'file';

const PREFIX = 'json:';

const childTypes: readonly string[] = ['BlockdevRef', 'BlockdevRefOrNull'];

export function isJsonFilename(filename: string): boolean {
  return filename.startsWith(PREFIX);
}

/** Throws QmpError with the reference's texts. */
export async function jsonFilenameOptions(
  filename: string,
  { level, driver }: JsonFilenamePlace,
  context: JsonFilenameContext,
): Promise<BlockdevOptions> {
  const leaves = new Map<string, string | null | KeyvalObject>();
  const object = parsed(filename);
  collectLeaves(object, '', leaves);
  if (driver !== undefined && driver !== '') leaves.set('driver', driver);
  const { typeModel } = await import('../qapi/generated/type-model.ts');
  const options = nodeOptions(treeOf(leaves), level, { ...context, types: typeModel });
  noteSpellings(options, object);
  return options;
}

function parsed(filename: string): object {
  let value: JsonValue;
  try {
    value = parseJson(filename.slice(PREFIX.length));
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    throw new QmpError(`Could not parse the JSON options: ${error.message}`, { cause: error });
  }
  if (!isObject(value) || Array.isArray(value)) throw new QmpError('Invalid JSON object given');
  return value;
}

/** Every value under its flat name; numbers and truth values as they are spelled. */
function collectLeaves(
  object: object,
  prefix: string,
  into: Map<string, string | null | KeyvalObject>,
): void {
  for (const [name, value] of Object.entries(object) as [string, JsonValue][]) {
    const path = `${prefix}${name}`;
    if (value === null || typeof value === 'string') into.set(path, value);
    else if (typeof value === 'boolean') into.set(path, value ? 'on' : 'off');
    else if (typeof value === 'number' || typeof value === 'bigint') into.set(path, String(value));
    else if (value instanceof JsonDouble) into.set(path, String(value.value));
    else if (isObject(value) && Object.keys(value).length > 0)
      collectLeaves(value, `${path}.`, into);
    else into.set(path, emptyObject());
  }
}

/** Of everything that is text in `given` and something else in `options`. */
function noteSpellings(options: object, given: object): void {
  for (const [path, text] of Object.entries(flatten(given))) {
    const names = path.split('.');
    const last = names.pop() as string;
    let at: unknown = options;
    for (const name of names) at = isObject(at) ? (at as KeyvalObject)[name] : undefined;
    if (typeof text !== 'string' || !isObject(at)) continue;
    const value = (at as KeyvalObject)[last] as unknown;
    if (typeof value === 'number' || typeof value === 'boolean') noteSpelling(at, last, text);
  }
}

/** Flat names to objects, and to lists where all names are numbers. Throws QmpError where a name is both. */
function treeOf(leaves: ReadonlyMap<string, string | null | KeyvalObject>): KeyvalObject {
  const tree = emptyObject();
  for (const [path, leaf] of leaves) {
    const names = path.split('.');
    const last = names.pop() as string;
    let at = tree;
    for (const name of names) {
      const below = (at[name] ??= emptyObject());
      if (!isObject(below)) throw new QmpError(BOTH);
      at = below as KeyvalObject;
    }
    if (at[last] !== undefined && isObject(at[last]) !== isObject(leaf)) throw new QmpError(BOTH);
    at[last] ??= leaf;
  }
  for (const name of Object.keys(tree)) tree[name] = withLists(tree[name] as KeyvalValue);
  return tree;
}

const BOTH = 'Cannot reference an existing block device with additional options or a new filename';

function withLists(value: KeyvalValue): KeyvalValue {
  if (!isObject(value)) return value;
  const object = value as KeyvalObject;
  const names = Object.keys(object);
  for (const name of names) object[name] = withLists(object[name] as KeyvalValue);
  const isList = names.length > 0 && names.every((_, index) => object[index] !== undefined);
  return isList ? names.map((_, index) => object[index] as KeyvalValue) : object;
}

type Types = JsonFilenameContext & { readonly types: TypeModels };

function nodeOptions(tree: KeyvalObject, level: Level, context: Types): BlockdevOptions {
  const name = typeof tree['driver'] === 'string' ? tree['driver'] : driverOfFile(tree, level);
  const driver = name === undefined ? undefined : driverNamed(name, context);
  const members = driver === undefined ? [] : membersOf(driver.name, context.types);
  const options = emptyObject() as Record<string, unknown>;
  if (driver?.name === 'nbd') takeOldAddress(tree);
  const left = new Map(membersInOrder(tree).map((each) => [each, tree[each] as KeyvalValue]));
  left.delete('driver');
  // Without a driver there is nothing but an image's file yet.
  for (const member of members.length > 0 ? members : [fileMember]) {
    const value = left.get(member.name);
    left.delete(member.name);
    const taken = memberValue(value, member, { driver, level, context });
    if (taken !== undefined) options[member.name] = taken;
  }
  if (driver === undefined) return imageOptions(tree, options, context);
  for (const [member, value] of left) throw unknownOption(driver, member, value);
  return { driver: driver.name, ...options } as unknown as BlockdevOptions;
}

interface Member {
  readonly name: string;
  readonly type: string;
  readonly optional: boolean;
}

const fileMember: Member = { name: 'file', type: 'BlockdevRef', optional: true };

interface Parent {
  readonly driver: BlockDriver | undefined;
  readonly level: Level;
  readonly context: Types;
}

function memberValue(value: KeyvalValue | undefined, member: Member, parent: Parent): unknown {
  const { name, type, optional } = member;
  if (name === 'driver') return undefined;
  if (childTypes.includes(type)) return childValue(value, member, parent);
  if (type === 'BlockdevRefList' && Array.isArray(value)) {
    return value.map((each: KeyvalValue) =>
      childValue(each, { ...member, optional: false }, parent),
    );
  }
  if (value === undefined) {
    if (optional) return undefined;
    throw new QmpError(
      name === 'filename'
        ? `The '${parent.driver?.name}' block driver requires a file name`
        : `Parameter '${name}' is missing`,
    );
  }
  if (type === 'int' && typeof value === 'string') return sizeOf(value, name);
  checkWord(value, member, parent.context.types);
  return coerceKeyval(value, type, parent.context.types, name);
}

function checkWord(value: KeyvalValue, { name, type }: Member, types: TypeModels): void {
  const model = types[type];
  if (model?.kind !== 'enum' || typeof value !== 'string' || model.values.includes(value)) return;
  throw new QmpError(
    name === 'discard' ? 'Invalid discard option' : `invalid parameter value: ${value}`,
  );
}

/** What a driver takes as an integer may be told with a suffix. */
function sizeOf(text: string, name: string): number {
  const size = parseSizeText(text);
  const number = Number(size);
  if (!Number.isSafeInteger(number)) checkSize(name, -1);
  return number;
}

/** A child's options, its name, or null for none. */
function childValue(
  value: KeyvalValue | undefined,
  { name, type, optional }: Member,
  { driver, level, context }: Parent,
): unknown {
  if (typeof value === 'string') return value;
  if (value === null && type === 'BlockdevRefOrNull') return null;
  if (!isObject(value) || Object.keys(value).length === 0) {
    if (optional) return undefined;
    throw new QmpError(`A block device must be specified for "${name}"`);
  }
  return nodeOptions(value as KeyvalObject, levelOf(name, driver, level), context);
}

/** What formats stand on are files, but not backing files and copies; filters have below them what they are themselves. */
function levelOf(name: string, driver: BlockDriver | undefined, level: Level): Level {
  if (driver === undefined) return 'file';
  if (driver.kind !== 'format') return level;
  return name === 'file' || name === 'data-file' ? 'file' : 'image';
}

function driverOfFile(tree: KeyvalObject, level: Level): string | undefined {
  if (level === 'image') return undefined;
  const { filename } = tree;
  if (typeof filename !== 'string') throw new QmpError('Must specify either driver or file');
  return pathOptions(filename).driver;
}

/** Of an image whose format nobody said, now that its file is known. */
function imageOptions(
  tree: KeyvalObject,
  { file }: Record<string, unknown>,
  context: Types,
): BlockdevOptions {
  if (file === undefined) throw new QmpError('Must specify either driver or file');
  const driver = context.format(file as BlockdevOptions | string);
  return nodeOptions(Object.assign(emptyObject(), tree, { driver }), 'image', context);
}

/** Where an NBD server is, in the way of old images: `path`, or `host` and `port`. Throws QmpError. */
function takeOldAddress(tree: KeyvalObject): void {
  const { path, host, port } = tree;
  if (path === undefined && host === undefined && port === undefined) return;
  if (tree['server'] !== undefined) {
    throw new QmpError("Cannot use 'server' and path/host/port at the same time");
  }
  if (path !== undefined && host !== undefined) {
    throw new QmpError('path and host may not be used at the same time');
  }
  if (path !== undefined && port !== undefined) {
    throw new QmpError('port may not be used without host');
  }
  if (host === undefined && path === undefined) {
    throw new QmpError('NBD server address missing');
  }
  const server = Object.assign(
    emptyObject(),
    path === undefined ? { type: 'inet', host, port: port ?? '10809' } : { type: 'unix', path },
  );
  for (const name of ['path', 'host', 'port']) delete tree[name];
  tree['server'] = server;
}

function driverNamed(name: string, { types, driver }: Types): BlockDriver {
  const model = types['BlockdevOptions'];
  const isKnown = model?.kind === 'union' && Object.hasOwn(model.variants, name);
  if (!isKnown) throw new QmpError(`Unknown driver '${name}'`);
  return driver(name as BlockdevDriver);
}

function membersOf(driver: string, types: TypeModels): readonly Member[] {
  const model = types['BlockdevOptions'];
  if (model?.kind !== 'union') throw new Error('BlockdevOptions is not a union');
  const variant = types[model.variants[driver] ?? ''];
  return [...model.members, ...(variant?.kind === 'struct' ? variant.members : [])];
}

function unknownOption(driver: BlockDriver, name: string, value: KeyvalValue): QmpError {
  let flat = name;
  for (let below = value; isObject(below) && Object.keys(below).length > 0; ) {
    const [first = ''] = membersInOrder(below);
    flat += `.${first}`;
    below = (below as KeyvalObject)[first] as KeyvalValue;
  }
  return new QmpError(
    driver.kind === 'protocol' || driver.isProtocol === true
      ? `Block protocol '${driver.name}' doesn't support the option '${flat}'`
      : `Block format '${driver.name}' does not support the option '${flat}'`,
  );
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function emptyObject(): KeyvalObject {
  return Object.create(null) as KeyvalObject;
}
