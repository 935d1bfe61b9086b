// Sources to the package: dist/main.js (the program), dist/index.js (the library), dist/parts (what they share or load only
// when they need it), and declarations. CommonJS, since Node starts it faster than ES modules.

import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build, type Plugin, transform } from 'esbuild';
import { cachedPack, recordCodeCache } from './code-cache.ts';
import { type Pack, packFiles } from './pack.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = path.join(root, 'dist');

/** An extra certificate file costs every start of Node 70 ms, and the daemon reads no certificates from there. */
const SHEBANG = '#!/usr/bin/env -S NODE_EXTRA_CA_CERTS= node';
const EXECUTABLE = 0o755;

/** `from './x.ts'` and `import('./x.js')`: what stands before the specifier, and the specifier without its extension. */
const RELATIVE_IMPORT = /((?:from|import\()\s*')(\.[^']+)\.[jt]s'/g;

const TARGET = 'node20';

/** Where a stand-in for koffi lives in the bundler's eyes. */
const DIRECT_KOFFI = 'direct-koffi';

/** What the bundler calls p-queue, after its folder. */
const P_QUEUE = 'dist';

/**
 * What is loaded together is one file: the program up to the greeting on standard output, the same for a socket, and all
 * that a running daemon may come to need. That one is read right after the start, so that neither a lack of descriptors nor
 * a package that has been replaced or removed can stop a command later. A part that several need is in the first of them.
 */
const PACKS: readonly Pack[] = [
  { name: 'start', entries: ['main', 'stdio', 'terminal', 'type-model'] },
  { name: 'sockets', entries: ['socket'] },
  {
    name: 'commands',
    entries: [
      'engine',
      'dispatcher',
      'handlers',
      'validators',
      'introspection',
      P_QUEUE,
      'file',
      'mux',
      'null',
      'pipe',
      'pty',
      'ringbuf',
      'serial',
      'telnet',
      'websocket',
      'socket-tls',
      'tls',
      'tls-creds-files',
      'tls-creds-x509-files',
      'file-watch',
      'keyring',
      'validation-error',
    ],
  },
];

/**
 * koffi's own loader looks around for several milliseconds. The package with its native part is asked for directly, and the
 * loader only where that is not to be had (another C library, another package manager's layout, another version).
 */
const directKoffi: Plugin = {
  name: DIRECT_KOFFI,
  setup(bundler) {
    // The loader itself stays outside; what asks for koffi gets the module below.
    bundler.onResolve({ filter: /^koffi$/ }, ({ namespace }) =>
      namespace === DIRECT_KOFFI
        ? { path: 'koffi', external: true }
        : { path: 'koffi', namespace: DIRECT_KOFFI },
    );
    bundler.onLoad({ filter: /.*/, namespace: DIRECT_KOFFI }, async () => {
      const manifest = path.join(root, 'node_modules/koffi/package.json');
      const { version } = JSON.parse(await readFile(manifest, 'utf8')) as { version: string };
      return {
        contents: `
          const { arch, platform } = process;
          let native;
          try {
            native = require('@koromix/koffi-' + platform + '-' + arch + '/' + platform + '_' + arch + '/koffi.node');
          } catch {}
          module.exports = native?.version === '${version}' ? native : require('koffi');
        `,
      };
    });
  },
};

const declarationsProject = {
  extends: '../../tsconfig.json',
  compilerOptions: {
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    rootDir: '../..',
    outDir: 'types',
  },
  include: [],
  files: ['../../src/index.ts'],
};

/**
 * Bundles the program and the library. What they share, and what is imported with `import()`, becomes a file of its own, so
 * that a start reads and compiles only what it needs. esbuild splits ES modules only, hence the second step for each file.
 */
async function buildCode(): Promise<void> {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['src/main.ts', 'src/index.ts'],
    outdir: dist,
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: TARGET,
    external: ['pino'],
    plugins: [directKoffi],
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
  });
  const files = new Map<string, string>();
  for (const { path: file, text } of outputFiles) {
    files.set(path.relative(dist, file), await commonJs(text));
  }
  const packed = packFiles(files, PACKS);
  for (const { name } of PACKS) {
    const text = packed.get(`parts/${name}.js`) ?? '';
    for (const [file, code] of cachedPack(name, text)) packed.set(file, code);
  }
  packed.set('main.js', `${SHEBANG}\n${packed.get('main.js')}`);
  await rm(path.join(dist, 'parts'), { recursive: true, force: true });
  await mkdir(path.join(dist, 'parts'), { recursive: true });
  for (const [name, code] of packed) await writeFile(path.join(dist, name), code);
  await chmod(path.join(dist, 'main.js'), EXECUTABLE);
  await recordCodeCache(
    dist,
    PACKS.map(({ name }) => name),
  );
}

async function commonJs(text: string): Promise<string> {
  const { code } = await transform(text, {
    format: 'cjs',
    platform: 'node',
    target: TARGET,
    charset: 'utf8',
    // A dynamic import of a file of ours becomes a require: the loader for ES modules would have to start for it.
    supported: { 'dynamic-import': false },
    minifySyntax: true,
    minifyWhitespace: true,
  });
  return code;
}

/** Declarations of what src/index.ts exports, and of what those refer to. */
async function buildDeclarations(): Promise<void> {
  // Under names of its own, so that two builds at once do not meet.
  const work = await mkdtemp(path.join(dist, 'declarations-'));
  try {
    await writeFile(path.join(work, 'tsconfig.json'), JSON.stringify(declarationsProject));
    const tsc = path.join(root, 'node_modules/.bin/tsc');
    await promisify(execFile)(tsc, ['-p', work], { cwd: root }).catch((error: unknown) => {
      throw new Error(`tsc failed:\n${(error as { stdout: string }).stdout}`);
    });
    await keepReachable(path.join(work, 'types'), path.join(dist, 'types'));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Keeps the declarations that the public API refers to, with specifiers that every version of TypeScript resolves. */
async function keepReachable(directory: string, target: string): Promise<void> {
  const kept = new Map<string, string>();
  const visit = async (file: string): Promise<void> => {
    if (kept.has(file)) return;
    const text = await readDeclaration(directory, file);
    kept.set(file, text.replaceAll(RELATIVE_IMPORT, "$1$2.js'"));
    for (const [, , specifier = ''] of text.matchAll(RELATIVE_IMPORT)) {
      await visit(path.resolve(path.dirname(file), `${specifier}.d.ts`));
    }
  };
  await visit(path.join(directory, 'src/index.d.ts'));
  await rm(target, { recursive: true, force: true });
  for (const [file, text] of kept) {
    const copy = path.join(target, path.relative(directory, file));
    await mkdir(path.dirname(copy), { recursive: true });
    await writeFile(copy, text);
  }
}

/** What the compiler wrote, or the source when that is a declaration already. */
async function readDeclaration(directory: string, file: string): Promise<string> {
  const source = path.join(root, path.relative(directory, file));
  return readFile(file, 'utf8').catch(() => readFile(source, 'utf8'));
}

await mkdir(dist, { recursive: true });
await writeFile(path.join(dist, 'package.json'), '{ "type": "commonjs" }\n');
await Promise.all([buildCode(), buildDeclarations()]);
