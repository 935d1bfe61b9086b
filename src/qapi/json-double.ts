// A JSON number that is not written as a 64-bit integer: `1.0`, `1e3`, 2^64 and beyond. QAPI tells `1` and `1.0` apart (an
// integer member refuses the latter), which a plain JavaScript number cannot.

/** The value of a JSON number with a fraction or an exponent, or of an integer outside int64 and uint64. */
export class JsonDouble {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}
