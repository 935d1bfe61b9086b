// What JSON text becomes: integers are `number` when exact, else `bigint`; every other number is a JsonDouble; objects have
// no prototype, so that no member name is special.

import type { JsonDouble } from './json-double.ts';

export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | JsonDouble
  | JsonValue[]
  | JsonObject;

export interface JsonObject {
  [member: string]: JsonValue;
}

/** True for a JSON object, as against an array, a double or any other value. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === null;
}
