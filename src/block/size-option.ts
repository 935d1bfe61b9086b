// Options that are sizes: the schema takes any integer, the reference's drivers do not.

import { QmpError } from '../qapi/errors.ts';

const SUFFIX_HINT =
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
  'and exabytes, respectively.';

/** Throws QmpError with the reference's text for a size (bytes) that is none. */
export function checkSize(name: string, size: number): void {
  if (size >= 0) return;
  throw new QmpError(`Parameter '${name}' expects a non-negative number below 2^64`, {
    hint: SUFFIX_HINT,
  });
}
