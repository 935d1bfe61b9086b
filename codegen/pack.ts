// Puts CommonJS files that are always loaded together into one file each: reading and compiling twenty small ones takes Node
// several milliseconds. Each stays a function with its own exports, so nothing in them changes but where they ask for others.

/** A file to be made, `parts/NAME.js`, and what it must hold, by the names' beginnings: with all that those require. */
export interface Pack {
  readonly name: string;
  readonly entries: readonly string[];
}

/** `require` of a file of ours, as the bundler writes it. What it writes for `import()` differs in what stands before. */
const REQUIRE = /(Promise\.resolve\(\)\.then\(\(\)=>__toESM\()?require\("(\.[^"]+)"\)/g;

/**
 * `files` by their names: entry points (`main.js`) and parts of them (`parts/NAME.js`). The result has the same entry points,
 * the packs, and the parts that are in none.
 */
export function packFiles(
  files: ReadonlyMap<string, string>,
  packs: readonly Pack[],
): Map<string, string> {
  const packOf = new Map<string, string>();
  for (const { name, entries } of packs) {
    const heads = [...files.keys()].filter((file) => isEntry(file, entries));
    if (heads.length !== entries.length) throw new Error(`pack ${name} does not find its files`);
    for (const file of withRequired(files, heads)) {
      if (!packOf.has(file)) packOf.set(file, name);
    }
  }
  const result = new Map<string, string>();
  for (const { name } of packs) {
    const members = [...files].filter(([file]) => packOf.get(file) === name);
    result.set(
      `parts/${name}.js`,
      packText(members.map(([file, code]) => [file, rewired(file, code, packOf)])),
    );
  }
  for (const [file, code] of files) {
    const pack = packOf.get(file);
    if (pack === undefined) result.set(file, rewired(file, code, packOf));
    else if (!file.startsWith('parts/')) {
      result.set(file, `"use strict";require("./parts/${pack}.js")("${file}");\n`);
    }
  }
  return result;
}

function isEntry(file: string, entries: readonly string[]): boolean {
  const name = file.replace(/^parts\//, '').replace(/(?:-[0-9A-Z]{8})?\.js$/, '');
  return entries.includes(name);
}

function withRequired(files: ReadonlyMap<string, string>, heads: readonly string[]): Set<string> {
  const found = new Set<string>();
  const visit = (file: string) => {
    if (found.has(file)) return;
    found.add(file);
    for (const [, later, specifier = ''] of files.get(file)?.matchAll(REQUIRE) ?? []) {
      if (later === undefined) visit(target(file, specifier));
    }
  };
  for (const head of heads) visit(head);
  return found;
}

/** The code with each `require` going to where its file now is; packs are in the folder of the parts. */
function rewired(file: string, code: string, packOf: ReadonlyMap<string, string>): string {
  const toParts = packOf.has(file) || file.startsWith('parts/') ? './' : './parts/';
  return code.replaceAll(REQUIRE, (_whole, later: string | undefined, specifier: string) => {
    const wanted = target(file, specifier);
    const pack = packOf.get(wanted);
    const name = wanted.replace(/^parts\//, '');
    const required =
      pack === undefined
        ? `require("${toParts}${name}")`
        : pack === packOf.get(file)
          ? `load("${wanted}")`
          : `require("${toParts}${pack}.js")("${wanted}")`;
    return `${later ?? ''}${required}`;
  });
}

function target(file: string, specifier: string): string {
  const folder = file.startsWith('parts/') ? 'parts/' : '';
  return `${folder}${specifier.slice(2)}`;
}

function packText(members: readonly (readonly [string, string])[]): string {
  const functions = members.map(
    ([file, code]) => `"${file}"(module,exports,require,load){${code.trimEnd()}\n}`,
  );
  return `"use strict";
const loaded = new Map();
function load(name) {
  let module = loaded.get(name);
  if (module === undefined) {
    module = { exports: {} };
    loaded.set(name, module);
    files[name](module, module.exports, require, load);
  }
  return module.exports;
}
module.exports = load;
const files = {
${functions.join(',\n')}
};
`;
}
