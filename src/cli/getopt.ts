// Command-line scanning as glibc's getopt_long does it for the optstring "-hT:V": options and other words in the order in
// which they stand, long names may be abbreviated, `--` ends everything. The texts of its errors are glibc's.

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  readonly argument: 'required' | 'none';
}

/** `location` is what error messages put before the message: the words that made up the option. */
export type ScannedWord<Name extends string = string> =
  | {
      readonly kind: 'option';
      readonly name: Name;
      readonly argument: string | undefined;
      readonly location: string;
    }
  | { readonly kind: 'word'; readonly word: string; readonly location: string }
  | { readonly kind: 'error'; readonly message: string };

/** Scans `words` (without the program's name) from left to right. An error does not end the scan; its consumer does. */
export function* scanWords<const Specs extends readonly OptionSpec[]>(
  words: readonly string[],
  specs: Specs,
): Generator<ScannedWord<Specs[number]['name']>> {
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') return;
    if (word.startsWith('--')) {
      const next = words[at + 1];
      const scanned = scanLong(word, next, specs);
      if (scanned.kind === 'option' && scanned.tookNext) at++;
      yield scanned;
    } else if (word.startsWith('-') && word !== '-') {
      at += yield* scanShort(word, words[at + 1], specs);
    } else {
      yield { kind: 'word', word, location: word };
    }
  }
}

function scanLong(word: string, next: string | undefined, specs: readonly OptionSpec[]) {
  const equals = word.indexOf('=');
  const typed = equals < 0 ? word.slice(2) : word.slice(2, equals);
  const inline = equals < 0 ? undefined : word.slice(equals + 1);
  const matches = specs.filter(({ name }) => name.startsWith(typed));
  const spec = specs.find(({ name }) => name === typed) ?? matches[0];
  if (spec === undefined) return failure(`unrecognized option '${word}'`);
  if (matches.length > 1 && spec.name !== typed) {
    const names = matches.map(({ name }) => ` '--${name}'`).join('');
    return failure(`option '${word}' is ambiguous; possibilities:${names}`);
  }
  if (spec.argument === 'none') {
    if (inline !== undefined) return failure(`option '--${spec.name}' doesn't allow an argument`);
    return option(spec.name, undefined, word);
  }
  if (inline !== undefined) return option(spec.name, inline, word);
  if (next === undefined) return failure(`option '--${spec.name}' requires an argument`);
  return option(spec.name, next, `${word} ${next}`, true);
}

/** Scans a cluster such as `-hTfoo`; returns how many words after it were used up. */
function* scanShort(
  word: string,
  next: string | undefined,
  specs: readonly OptionSpec[],
): Generator<ScannedWord, number> {
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at);
    const spec = specs.find(({ short }) => short === letter);
    if (spec === undefined) {
      yield failure(`invalid option -- '${letter}'`);
    } else if (spec.argument === 'none') {
      yield option(spec.name, undefined, word);
    } else if (at + 1 < word.length) {
      yield option(spec.name, word.slice(at + 1), word);
      return 0;
    } else if (next === undefined) {
      yield failure(`option requires an argument -- '${letter}'`);
    } else {
      yield option(spec.name, next, `${word} ${next}`);
      return 1;
    }
  }
  return 0;
}

function option(name: string, argument: string | undefined, location: string, tookNext = false) {
  return { kind: 'option' as const, name, argument, location, tookNext };
}

function failure(message: string) {
  return { kind: 'error' as const, message };
}
