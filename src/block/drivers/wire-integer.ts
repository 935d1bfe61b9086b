// Integers of options come off the wire as BigInts where a number would not be exact, though their type says number.

/** The value as it may really be. */
export function wireInteger(value: number): number | bigint {
  return value;
}
