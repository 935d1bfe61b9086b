// Names as they are on the wire: a character for each byte.

/** As the reference has texts of JSON in memory: UTF-8, but for U+0000, which is two bytes. */
export function wireText(text: string): string {
  return Buffer.from(text).toString('latin1').replaceAll('\0', '\xc0\x80');
}
