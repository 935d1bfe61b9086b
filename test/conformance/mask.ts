// What two runs may differ in: the directory, the clock, random names, and who answers. Everything else must be equal.

const rules: readonly (readonly [RegExp, string])[] = [
  [/(?:\/\S*\/|\b)(?:qemu|qmp)-storage-daemon(?=:| version)/g, '@PROGRAM@'],
  [/"seconds": \d+/g, '"seconds": 0'],
  [/"microseconds": \d+/g, '"microseconds": 0'],
  [/"(date|vm-clock)-(n?sec)": \d+/g, '"$1-$2": 0'],
  [/(\\?"package\\?": \\?")[^"\\]*(\\?")/g, '$1@PACKAGE@$2'],
  [
    /\{"qemu": \{"micro": 22, "minor": 2, "major": 7\}, "package": "@PACKAGE@"\}/g,
    '@VERSION 7.2.22@',
  ],
  [/(@PROGRAM@ version \S+) \(.*\)$/gm, '$1 (@PACKAGE@)'],
  [/^Copyright \(c\) .*$/gm, '@COPYRIGHT@'],
  [/\/tmp\/[a-z]+-socket-\w{6}/g, '/tmp/@SOCKET@'],
  [/\/dev\/pts\/\d+/g, '/dev/pts/@N@'],
  [/\[00:0\d:\d\d\.\d{3}\] /g, '[@TIME@] '],
  [/\b127\.0\.0\.1:\d{5}\b/g, '127.0.0.1:@PORT@'],
];

/** Text of one run with everything that may differ between two runs replaced. */
export function mask(text: string, directory: string): string {
  let masked = text.replaceAll(directory, '@DIR@');
  for (const [pattern, replacement] of rules) masked = masked.replace(pattern, replacement);
  return masked;
}

/** Generated node names (`#block042`) are random: numbered here in the order in which they show up. */
export function generatedNames(): (text: string) => string {
  const seen = new Map<string, number>();
  return (text) =>
    text.replace(/#block\d+/g, (name) => {
      const number = seen.get(name) ?? seen.size + 1;
      seen.set(name, number);
      return `#block@${number}@`;
    });
}
