// Numbers as the command line spells them: strtol with base 0 (decimal, 0x, leading 0 for octal), and sizes with a binary
// suffix and an optional fraction.

export type NumberFailure = 'invalid' | 'out of range';

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;
/** strtod's fraction is kept as a 64-bit fixed-point number. */
const FRACTION_BITS = 64n;
const SUFFIX_POWER = { B: 0n, K: 1n, M: 2n, G: 3n, T: 4n, P: 5n, E: 6n } as const;

/** A signed 64-bit integer: `-1`, `0x10`, `010` (octal), leading blanks allowed. */
export function parseNumberText(text: string): bigint | NumberFailure {
  const number = integerOf(text);
  if (number === undefined) return 'invalid';
  return number < INT64_MIN || number > INT64_MAX ? 'out of range' : number;
}

/** An unsigned 64-bit integer; as strtoull does, a negative one wraps around. */
export function parseUnsignedText(text: string): bigint | NumberFailure {
  const number = integerOf(text);
  if (number === undefined) return 'invalid';
  const negative = number < 0n;
  if ((negative ? -number : number) > UINT64_MAX) return 'out of range';
  return BigInt.asUintN(64, number);
}

/** A size in bytes: `512`, `4k`, `1.5G`, `0x1000`; a fraction needs a suffix, hexadecimal takes no fraction. */
export function parseSizeText(text: string): bigint | NumberFailure {
  const match =
    /^\s*\+?(?:0[xX](?<hex>[0-9a-fA-F]+)|(?<digits>\d+)(?<fraction>\.\d*)?)(?<suffix>[a-zA-Z]?)$/.exec(
      text,
    );
  if (!match?.groups) return 'invalid';
  const { hex, digits, fraction, suffix = '' } = match.groups;
  const power = SUFFIX_POWER[(suffix || 'B').toUpperCase() as keyof typeof SUFFIX_POWER];
  if (power === undefined) return 'invalid';
  const whole = BigInt(hex === undefined ? (digits ?? '0') : `0x${hex}`);
  if (whole > UINT64_MAX) return 'out of range';
  const part = BigInt(Math.floor(Number(`0${fraction ?? ''}`) * 2 ** Number(FRACTION_BITS)));
  if (power === 0n) return part === 0n ? whole : 'invalid';
  const scale = 1024n ** power;
  const half = 1n << (FRACTION_BITS - 1n);
  const size = whole * scale + ((part * scale + half) >> FRACTION_BITS);
  return size > UINT64_MAX ? 'out of range' : size;
}

function integerOf(text: string): bigint | undefined {
  const match = /^\s*([-+]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(text);
  if (!match) return undefined;
  const [, sign, digits = '0'] = match;
  const octal = /^0[0-7]+$/.test(digits);
  const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  return sign === '-' ? -magnitude : magnitude;
}
