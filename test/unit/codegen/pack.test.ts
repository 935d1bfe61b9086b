import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { packFiles } from '../../../codegen/pack.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

const later = (name: string) => `Promise.resolve().then(()=>__toESM(require("${name}")))`;
const files = new Map([
  [
    'main.js',
    `const __toESM=x=>x;const a=require("./parts/chunk-AAAAAAAA.js");exports.a=a;exports.late=()=>${later('./parts/late-BBBBBBBB.js')};`,
  ],
  [
    'index.js',
    `exports.a=require("./parts/chunk-AAAAAAAA.js");exports.c=require("./parts/chunk-CCCCCCCC.js");`,
  ],
  [
    'parts/chunk-AAAAAAAA.js',
    `exports.path=require("node:path");exports.count=(globalThis.packed=(globalThis.packed??0)+1);`,
  ],
  [
    'parts/late-BBBBBBBB.js',
    `exports.a=require("./chunk-AAAAAAAA.js");exports.c=require("./chunk-CCCCCCCC.js");`,
  ],
  ['parts/chunk-CCCCCCCC.js', `exports.name="c";`],
]);

function written(): NodeJS.Require {
  const directory = tempDir();
  mkdirSync(path.join(directory, 'parts'));
  const packs = [
    { name: 'start', entries: ['main'] },
    { name: 'more', entries: ['late'] },
  ];
  for (const [name, code] of packFiles(files, packs)) {
    writeFileSync(path.join(directory, name), code);
  }
  return createRequire(path.join(directory, 'from.js'));
}

describe('packFiles', () => {
  it('leaves entry points, packs and nothing that is in a pack', () => {
    const names = packFiles(files, [{ name: 'start', entries: ['main'] }]).keys();
    expect([...names].sort()).toEqual([
      'index.js',
      'main.js',
      'parts/chunk-CCCCCCCC.js',
      'parts/late-BBBBBBBB.js',
      'parts/start.js',
    ]);
  });

  it('keeps one instance of each file, wherever it is asked for', async () => {
    const load = written();
    const start = load('./parts/start.js') as (name: string) => {
      a: object;
      late(): Promise<{ a: object; c: object }>;
    };
    const main = start('main.js');
    const index = load('./index.js') as { a: object; c: object };
    const late = await main.late();
    expect(index.a).toBe(main.a);
    expect(late.a).toBe(main.a);
    expect(late.c).toBe(index.c);
    expect(main.a).toMatchObject({ count: 1 });
  });

  it('refuses a pack whose files are not there', () => {
    expect(() => packFiles(files, [{ name: 'x', entries: ['nope'] }])).toThrow(/pack x/);
  });
});
