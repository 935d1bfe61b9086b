// Reads and writes the `.cases` files of test/schema/errors; README.md there describes them.

import { readFileSync, writeFileSync } from 'node:fs';

export interface ErrorCase {
  readonly title: string;
  /** Schema files by name; the first is main.json. */
  readonly files: ReadonlyMap<string, string>;
  /** The whole message; empty when it is not recorded yet. */
  readonly error: string;
}

const TITLE = /^=== (.*)$/;
const PART = /^--- (.*)$/;

export function readCases(path: string): ErrorCase[] {
  const cases: ErrorCase[] = [];
  for (const block of readFileSync(path, 'utf8').split(/^(?==== )/m)) {
    const [first, ...lines] = block.replace(/\n$/, '').split('\n');
    const title = TITLE.exec(first ?? '')?.[1];
    if (title === undefined) throw new Error(`${path}: '${first}' where a title must be`);
    const parts = new Map<string, string[]>();
    let part: string[] = [];
    parts.set('main.json', part);
    for (const line of lines) {
      const name = PART.exec(line)?.[1];
      if (name === undefined) {
        part.push(line);
      } else {
        part = [];
        parts.set(name, part);
      }
    }
    const error = (parts.get('error') ?? []).join('\n');
    parts.delete('error');
    const files = [...parts].map(([name, text]) => [name, `${text.join('\n')}\n`] as const);
    cases.push({ title, files: new Map(files), error });
  }
  return cases;
}

export function writeCases(path: string, cases: readonly ErrorCase[]): void {
  const blocks = cases.map(({ title, files, error }) => {
    const texts = [...files].map(([name, text]) =>
      name === 'main.json' ? text : `--- ${name}\n${text}`,
    );
    return `=== ${title}\n${texts.join('')}--- error\n${error}\n`;
  });
  writeFileSync(path, blocks.join(''));
}
