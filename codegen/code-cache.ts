// V8's compiled form of the packs, beside them: a start that finds it compiles next to nothing. It holds for the version of
// Node that made it; any other refuses it and compiles as usual.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * A pack as two files: its text, and the module that loads it with the compiled form when that is there. V8 tells by the
 * length of a text whether its compiled form fits, so the name of that has a hash of the text in it.
 */
export function cachedPack(name: string, text: string): ReadonlyMap<string, string> {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  const loader = `"use strict";
const { readFileSync } = require("node:fs");
const { Script } = require("node:vm");
const filename = __dirname + "/${name}.pack.js";
const cacheFile = __dirname + "/${name}-${hash}.cache";
let cachedData;
try {
  cachedData = readFileSync(cacheFile);
} catch {}
const source = "(function(exports,require,module){" + readFileSync(filename, "utf8") + "\\n})";
const script = new Script(source, { filename, cachedData });
script.runInThisContext()(exports, require, module);
module.exports.cacheFile = cacheFile;
module.exports.script = script;
`;
  return new Map([
    [`parts/${name}.js`, loader],
    [`parts/${name}.pack.js`, text],
  ]);
}

/** What a short life of the daemon is made of: the functions that run in it are in the compiled form. */
const session = [
  { execute: 'qmp_capabilities' },
  { execute: 'query-version' },
  { execute: 'query-commands' },
  {
    execute: 'nbd-server-start',
    arguments: { addr: { type: 'unix', data: { path: 'nbd.sock' } } },
  },
  { execute: 'blockdev-add', arguments: { driver: 'null-co', 'node-name': 'n', size: 4096 } },
  { execute: 'block-export-add', arguments: { type: 'nbd', id: 'e', 'node-name': 'n' } },
  { execute: 'query-block-exports' },
  { execute: 'quit' },
];

/** Runs in a process of its own: the daemon, and at its end what V8 has compiled of each pack. */
const recorder = (dist: string, packs: readonly string[]) => `
const { writeFileSync } = require('node:fs');
process.on('exit', () => {
  for (const name of ${JSON.stringify(packs)}) {
    const file = require.resolve(${JSON.stringify(`${dist}/parts/`)} + name + '.js');
    const pack = require.cache[file]?.exports;
    if (pack) writeFileSync(pack.cacheFile, pack.script.createCachedData());
  }
});
process.argv = [process.argv[0], ${JSON.stringify(`${dist}/main.js`)}, '--chardev', 'stdio,id=c', '--monitor', 'c'];
require(process.argv[1]);
`;

/** Makes the compiled forms. A daemon that cannot run here leaves the build without them, which is no failure. */
export async function recordCodeCache(dist: string, packs: readonly string[]): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'qsd-build-'));
  try {
    const child = spawn(process.execPath, ['-e', recorder(dist, packs)], {
      cwd: directory,
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['pipe', 'ignore', 'inherit'],
      timeout: 10_000,
    });
    child.stdin.on('error', () => {});
    for (const command of session) child.stdin.write(`${JSON.stringify(command)}\n`);
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) process.stderr.write('build: no compiled form was made; starts are slower\n');
  } finally {
    await rm(directory, { recursive: true });
  }
}
