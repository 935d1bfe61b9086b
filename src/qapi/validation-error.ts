// What a generated validator found, as the sentence that the reference would say.

import { GlibStringSet } from '../base/glib-hash-table.ts';
import { QmpError } from './errors.ts';
import type { Fault, ValidationError } from './generated/validators.js';
import { membersInOrder } from './member-order.ts';

export interface ValidationErrorOptions {
  /** Elements of lists are named as keyval options spell them, `rules.0`, and not `rules[0]`. */
  readonly keyval?: boolean;
}

/** Where a fault is: the path from the root, and the last name of it (none for an element of a list). */
interface Place {
  readonly path: string;
  readonly leaf: string | undefined;
  readonly value: unknown;
}

/** What the reference prints for a name that is not there; which of the two depends on the kind of the fault. */
const NAMELESS_PATH = '<anonymous>';
const NAMELESS_LEAF = 'null';

/** What `expected` is when a value is no unsigned integer at all; the other names are of ranges. */
const ANY_UNSIGNED = 'uint64';

/** The error for the fault that a validator left after it refused `root`. */
export function validationError(
  errors: readonly ValidationError[] | null | undefined,
  root: unknown,
  options: ValidationErrorOptions = {},
): QmpError {
  const [error] = errors ?? [];
  if (error === undefined) throw new Error('validationError without an error');
  const place = locate(error.instancePath, root, options.keyval === true);
  return new QmpError(sentence(error.params, place));
}

/**
 * Which of several unexpected members is named. The reference keeps the names in a hash table, removes each one that it visits,
 * and names the first that is left.
 */
function firstLeft(value: unknown, known: readonly string[], otherwise: string): string {
  if (typeof value !== 'object' || value === null) return otherwise;
  const left = new GlibStringSet(membersInOrder(value));
  for (const name of known) left.delete(name);
  const [first] = left;
  return first ?? otherwise;
}

function sentence(fault: Fault, place: Place): string {
  const path = place.path === '' ? NAMELESS_PATH : place.path;
  const leaf = place.leaf ?? NAMELESS_LEAF;
  let text: string;
  switch (fault.kind) {
    case 'missing':
      text = `Parameter '${memberPath(place, fault.member)}' is missing`;
      break;
    case 'unexpected':
      text = `Parameter '${memberPath(place, firstLeft(place.value, fault.known, fault.member))}' is unexpected`;
      break;
    case 'type':
      text = `Invalid parameter type for '${path}', expected: ${fault.expected}`;
      break;
    case 'alternate':
      text = `Invalid parameter type for '${leaf}', expected: ${fault.expected}`;
      break;
    case 'enum':
      text = `Parameter '${leaf}' does not accept value '${fault.value}'`;
      break;
    case 'integer':
      text = `Parameter '${fault.expected === ANY_UNSIGNED ? path : leaf}' expects ${fault.expected}`;
      break;
    case 'unsafe':
      // The reference has no such limit, or takes a negative number for a huge one.
      text =
        fault.value.startsWith('-') && fault.expected === ANY_UNSIGNED
          ? `Parameter '${path}' does not accept the negative value ${fault.value}`
          : `Parameter '${path}' does not accept the value ${fault.value}, it must be below 2^53`;
      break;
  }
  return text;
}

function memberPath({ path }: Place, member: string): string {
  return path === '' ? member : `${path}.${member}`;
}

/** Follows a JSON pointer from `root`, which tells indexes from names. */
function locate(pointer: string, root: unknown, keyval: boolean): Place {
  let path = '';
  let leaf: string | undefined;
  let value = root;
  for (const step of pointer.split('/').slice(1)) {
    const name = step.replaceAll('~1', '/').replaceAll('~0', '~');
    if (Array.isArray(value) && !keyval) path += `[${name}]`;
    else path += path === '' ? name : `.${name}`;
    leaf = Array.isArray(value) ? undefined : name;
    value = (value as Readonly<Record<string, unknown>> | undefined)?.[name];
  }
  return { path, leaf, value };
}
