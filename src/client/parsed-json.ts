// A program's values as our JSON parser would have yielded them: the other way round of plain-json.ts.

import { QmpError } from '../qapi/errors.ts';
import { isJsonObject, type JsonValue } from '../qapi/json-value.ts';

/** As deep as a monitor takes it; a value that contains itself is deeper. */
const MAX_DEPTH = 1024;

/**
 * Objects without a prototype and without members that are undefined, integers as numbers where these are exact and as bigints
 * otherwise. What has no JSON stays as it is, for the schema to refuse. Throws QmpError.
 */
export function parsedJson(value: unknown, depth = 0): JsonValue {
  if (depth > MAX_DEPTH) throw new QmpError('JSON nesting depth limit exceeded');
  if (typeof value === 'number' || typeof value === 'bigint') return integer(value);
  if (Array.isArray(value)) return value.map((element) => parsedJson(element, depth + 1));
  if (!isPlainObject(value)) return value as JsonValue;
  const object = Object.create(null) as Record<string, JsonValue>;
  for (const [name, member] of Object.entries(value)) {
    if (member !== undefined) object[name] = parsedJson(member, depth + 1);
  }
  return object;
}

function integer(value: number | bigint): number | bigint {
  if (typeof value === 'bigint') {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value;
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  return isJsonObject(value) || Object.getPrototypeOf(value) === Object.prototype;
}
