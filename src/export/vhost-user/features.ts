// Sets of feature bits, as they are negotiated.

import { ProtocolError } from '../../base/errors.ts';

/** A 64-bit word with these bits set. */
export function featureBits(bits: readonly number[]): bigint {
  return bits.reduce((word, bit) => word | (1n << BigInt(bit)), 0n);
}

export function hasFeature(word: bigint, bit: number): boolean {
  return ((word >> BigInt(bit)) & 1n) === 1n;
}

/** Throws ProtocolError when something is accepted that was not offered. */
export function checkOffered(field: string, accepted: bigint, offered: bigint): void {
  const excess = accepted & ~offered;
  if (excess !== 0n) {
    throw new ProtocolError(field, hex(accepted), `a part of ${hex(offered)}`);
  }
}

function hex(word: bigint): string {
  return `0x${word.toString(16)}`;
}
