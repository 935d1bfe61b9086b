// What our JSON parser yields, as the values that JSON.parse would: for programs that use the client.

import { JsonDouble } from '../qapi/json-double.ts';
import type { JsonValue } from '../qapi/json-value.ts';

/** Doubles become numbers, and objects get the usual prototype. Integers beyond 2^53 stay bigints. */
export function plainJson(value: JsonValue): unknown {
  if (value instanceof JsonDouble) return value.value;
  if (Array.isArray(value)) return value.map(plainJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, plainJson(member)]),
  );
}
