// What `npm pack` makes, installed in an empty folder: the command, both ways to import the library, and its types.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDaemon } from '../helpers/daemon.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'qsd-package-'));
const installed = path.join(folder, 'node_modules/qmp-storage-daemon');

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Unpacks the archive and links what it depends on, so that no network is needed. */
beforeAll(() => {
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ) as { filename: string }[];
  mkdirSync(installed, { recursive: true });
  const archive = path.join(folder, packed?.filename ?? '');
  execFileSync('tar', ['xzf', archive, '-C', installed, '--strip-components=1']);
  for (const name of ['koffi', '@koromix', 'pino', 'p-queue']) linkDependency(name);
  writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }');
});

function linkDependency(name: string): void {
  symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name));
}

/** The README's programs, in the order in which they stand there. */
function readmeExamples(): string[] {
  const readme = readFileSync(path.join(installed, 'README.md'), 'utf8');
  return [...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, example = '']) => example);
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, NODE_EXTRA_CA_CERTS: '' },
  });
}

const example = `
  const daemon = createDaemon();
  await daemon.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 4096 });
  const nodes = await daemon.execute('query-named-block-nodes');
  await daemon.close();
  console.log(nodes[0]['node-name'], typeof QmpClient.connect);
`;

describe.skipIf(!existsSync(path.join(root, 'dist/index.js')))('the package (once built)', () => {
  it('holds the build, the schema and the papers, and nothing else', () => {
    const names = readdirSync(installed).sort();
    expect(names).toEqual(
      expect.arrayContaining(['LICENSE', 'README.md', 'dist', 'package.json', 'qapi']),
    );
    expect(
      names.filter((name) => ['src', 'test', 'codegen', 'node_modules'].includes(name)),
    ).toEqual([]);
  });

  it('has a command that runs', () => {
    const command = path.join(installed, 'dist/main.js');
    expect(run(command, '--version')).toMatch(
      /^qmp-storage-daemon version 7\.2\.22 \(qmp-storage-daemon /,
    );
    symlinkSync(command, path.join(folder, 'qemu-storage-daemon'));
    expect(run('./qemu-storage-daemon', '--version')).toMatch(/^qemu-storage-daemon version /);
  });

  it('runs where the native part of koffi is not beside it', () => {
    rmSync(path.join(folder, 'node_modules/@koromix'));
    try {
      expect(run(path.join(installed, 'dist/main.js'), '--version')).toMatch(
        /^qmp-storage-daemon /,
      );
    } finally {
      linkDependency('@koromix');
    }
  });

  it('can be imported', () => {
    writeFileSync(
      path.join(folder, 'use.mjs'),
      `import { createDaemon, QmpClient } from 'qmp-storage-daemon';${example}`,
    );
    expect(run(process.execPath, 'use.mjs')).toBe('n function\n');
  });

  it('can be imported by a program that has begun to use koffi itself', () => {
    writeFileSync(
      path.join(folder, 'beside.mjs'),
      `import koffi from 'koffi';
       koffi.load(null);
       const { createDaemon, QmpClient } = await import('qmp-storage-daemon');${example}`,
    );
    expect(run(process.execPath, 'beside.mjs')).toBe('n function\n');
  });

  it('can be required', () => {
    writeFileSync(
      path.join(folder, 'use.cjs'),
      `const { createDaemon, QmpClient } = require('qmp-storage-daemon'); (async () => {${example}})();`,
    );
    expect(run(process.execPath, 'use.cjs')).toBe('n function\n');
  });

  it('does what the README shows', async () => {
    const [shown = ''] = readmeExamples();
    const daemon = await startDaemon({
      command: [path.join(installed, 'dist/main.js')],
      args: ['--chardev', 'socket,id=c,path=s,server=on,wait=off', '--monitor', 'c'],
    });
    writeFileSync(
      path.join(folder, 'readme.mjs'),
      `${shown.replace('/run/qsd.sock', daemon.path('s')).replace('/tmp/nbd.sock', daemon.path('nbd'))}
       console.log(exports);`,
    );
    expect(run(process.execPath, 'readme.mjs')).toBe('[]\n');
  });

  it('has types that a strict program can use, and that refuse mistakes', () => {
    writeFileSync(
      path.join(folder, 'use.ts'),
      `import { type BlockdevOptions, createDaemon, type Events, QmpClient } from 'qmp-storage-daemon';
       import type { NbdServerStartArguments } from 'qmp-storage-daemon';
       const node: BlockdevOptions = { driver: 'raw', 'node-name': 'r', file: 'f' };
       const server: NbdServerStartArguments = { addr: { type: 'unix', data: { path: 's' } } };
       const daemon = createDaemon();
       await daemon.execute('blockdev-add', node);
       await daemon.execute('nbd-server-start', server);
       const client = await QmpClient.connect({ path: 'qmp' });
       const exports: string[] = (await client.execute('query-block-exports')).map(({ id }) => id);
       const gone: Events['BLOCK_EXPORT_DELETED'] = await client.waitForEvent('BLOCK_EXPORT_DELETED');
       console.log(exports, gone.id);
       // @ts-expect-error no such driver
       await client.execute('blockdev-add', { driver: 'floppy' });
       // @ts-expect-error a member is missing
       await client.execute('block-export-del', {});
       // @ts-expect-error no such command
       await client.execute('no-such-command');
      `,
    );
    writeFileSync(path.join(folder, 'readme.ts'), readmeExamples().join('\n'));
    writeFileSync(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          module: 'NodeNext',
          target: 'ES2022',
          strict: true,
          noEmit: true,
          // Those of Node are not among what the package brings along.
          types: [],
          skipLibCheck: false,
          exactOptionalPropertyTypes: true,
        },
        files: ['use.ts', 'readme.ts'],
      }),
    );
    expect(run(path.join(root, 'node_modules/.bin/tsc'), '-p', '.')).toBe('');
  });
});
