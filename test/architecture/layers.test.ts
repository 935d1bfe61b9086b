// Who may import whom: architecture's table, checked over every import in src/ and codegen/.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { tracePointNames } from '../../src/base/trace.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Folders of src/ and the folders that their files may import; their own is always among them. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  sys: ['base'],
  qapi: ['base'],
  net: ['base', 'sys', 'qapi'],
  object: ['base', 'sys', 'qapi'],
  block: ['base', 'qapi', 'object'],
  job: ['base', 'qapi', 'block'],
  export: ['base', 'sys', 'qapi', 'net', 'object', 'block'],
  monitor: ['base', 'qapi', 'net', 'object', 'block', 'job', 'export'],
  client: ['base', 'qapi'],
};

/** Files that may import more, by folder: drivers reach the system, and handlers the engine's type. */
const exceptions: readonly { readonly from: RegExp; readonly to: RegExp }[] = [
  { from: /^src\/block\/drivers\//, to: /^src\/sys\// },
  { from: /^src\/block\/drivers\/nbd\//, to: /^src\/net\// },
  { from: /^src\/monitor\//, to: /^src\/engine\.ts$/ },
];

/** Files at the top of src/, and the command line: they may import everything. */
const composition = /^src\/(?:cli\/|(?:daemon|engine|main|index)\.ts$)/;

/** Only these name many siblings. */
const registries = /^src\/(?:block\/drivers\/index|export\/index|net\/chardev\/backends)\.ts$/;

const MAX_LINES = 600;

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
  /** `import()`: does not happen when the module is loaded. */
  readonly later: boolean;
}

const files = readdirSync(root, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
  .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
  .filter((file) => /^(?:src|codegen)\//.test(file));

const imports = files.filter((file) => file.endsWith('.ts')).flatMap(importsOf);

function importsOf(from: string): Import[] {
  const text = readFileSync(path.join(root, from), 'utf8').replace(/^\s*(?:\/\/|\*|\/\*).*$/gm, '');
  const found: Import[] = [];
  const pattern =
    /\b(import|export)\s+(type\s+)?([^;'"]*?\bfrom\s+)?['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]\s*\)/g;
  for (const [, , typeWord, names = '', statically, dynamically] of text.matchAll(pattern)) {
    const specifier = statically ?? dynamically ?? '';
    const bindings = /\{([^}]*)\}/.exec(names)?.[1]?.split(',') ?? [];
    const onlyTypes =
      bindings.length > 0 && bindings.every((name) => /^\s*(?:type\s|$)/.test(name));
    found.push({
      from,
      to: path.join(path.dirname(from), specifier),
      typeOnly: typeWord !== undefined || onlyTypes,
      later: dynamically !== undefined,
    });
  }
  return found;
}

function folderOf(file: string): string {
  return /^src\/([^/]+)\//.exec(file)?.[1] ?? '';
}

const shown = ({ from, to }: Import) => `${from} imports ${to}`;

describe('layers', () => {
  it('finds the imports of the project', () => {
    expect(files.length).toBeGreaterThan(100);
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ to }) => !/\.(?:[jt]s|json)$/.test(to))).toEqual([]);
  });

  it('are kept by every import in src/', () => {
    const broken = imports.filter(({ from, to }) => {
      if (!from.startsWith('src/') || composition.test(from)) return false;
      const folder = folderOf(from);
      const allowed = [folder, ...(mayImport[folder] ?? [])];
      if (to.startsWith('src/') && allowed.includes(folderOf(to))) return false;
      return !exceptions.some((each) => each.from.test(from) && each.to.test(to));
    });
    expect(broken.map(shown)).toEqual([]);
  });

  it('codegen imports nothing of src/', () => {
    const broken = imports.filter(
      ({ from, to }) => from.startsWith('codegen/') && !to.startsWith('codegen/'),
    );
    expect(broken.map(shown)).toEqual([]);
  });

  it('every folder of src/ has its place in the table', () => {
    const folders = new Set(files.map(folderOf).filter((name) => name !== '' && name !== 'cli'));
    expect([...folders].filter((name) => !(name in mayImport))).toEqual([]);
  });

  it('block drivers do not import each other', () => {
    const unit = (file: string) => /^src\/block\/drivers\/([^/.]+)/.exec(file)?.[1];
    const broken = imports.filter(
      ({ from, to }) =>
        unit(from) !== undefined &&
        unit(to) !== undefined &&
        unit(from) !== unit(to) &&
        !registries.test(from),
    );
    expect(broken.map(shown)).toEqual([]);
  });

  it('only sys/ knows koffi', () => {
    const users = files
      .filter((file) => file.endsWith('.ts') && !file.startsWith('src/sys/'))
      .filter((file) => /from 'koffi'/.test(readFileSync(path.join(root, file), 'utf8')));
    expect(users).toEqual([]);
  });

  it('there are no cycles of modules', () => {
    const graph = new Map<string, string[]>();
    for (const { from, to, typeOnly, later } of imports) {
      if (!typeOnly && !later) graph.set(from, [...(graph.get(from) ?? []), to]);
    }
    expect(findCycle(graph)).toBeUndefined();
  });

  it(`no file is longer than ${MAX_LINES} lines`, () => {
    const long = files
      .filter((file) => !file.startsWith('src/qapi/generated/'))
      .map((file) => ({
        file,
        lines: readFileSync(path.join(root, file), 'utf8').split('\n').length,
      }))
      .filter(({ lines }) => lines > MAX_LINES + 1);
    expect(long).toEqual([]);
  });
});

describe('trace points', () => {
  it('are all used: --trace offers none that never speaks', () => {
    const text = files
      .filter((file) => file !== 'src/base/trace.ts' && file.endsWith('.ts'))
      .map((file) => readFileSync(path.join(root, file), 'utf8'))
      .join('\n');
    const unused = Object.keys(tracePointNames).filter(
      (name) => !new RegExp(`\\b${name}\\b`).test(text),
    );
    expect(unused).toEqual([]);
  });
});

describe('modules', () => {
  // The program runs when it is imported.
  const alone = files.filter(
    (file) => file.startsWith('src/') && file !== 'src/main.ts' && !file.endsWith('.d.ts'),
  );

  it.each(alone)('%s can be imported alone', async (file) => {
    await expect(import(path.join(root, file))).resolves.toBeDefined();
  });
});

function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, above: readonly string[]): string[] | undefined => {
    const start = above.indexOf(file);
    if (start >= 0) return [...above.slice(start), file];
    if (done.has(file)) return undefined;
    for (const next of graph.get(file) ?? []) {
      const cycle = visit(next, [...above, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file, []);
    if (cycle) return cycle;
  }
  return undefined;
}
