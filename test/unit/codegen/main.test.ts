// The generator as a program: what it writes, and how it fails.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'codegen-'));

afterAll(() => {
  rmSync(scratch, { recursive: true });
});

function run(...args: string[]) {
  const program = ['--import', 'tsx', 'codegen/main.ts', ...args];
  return spawnSync(process.execPath, program, { cwd: root, encoding: 'utf8' });
}

describe('codegen/main.ts', () => {
  it('writes the files and the manual', () => {
    const output = join(scratch, 'generated');
    const manual = join(scratch, 'docs', 'manual.md');
    const result = run('qapi/qapi-schema.json', output, '--docs', manual);
    expect(result).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(readdirSync(output).sort()).toEqual([
      'commands.ts',
      'enums.ts',
      'events.ts',
      'introspection.ts',
      'json-schema.json',
      'type-model.ts',
      'types.ts',
      'validators.d.ts',
      'validators.js',
    ]);
    expect(readFileSync(manual, 'utf8')).toMatch(/^# QMP reference manual\n/);
  });

  it('writes what it finds wrong to stderr, exits with 1 and leaves no output', () => {
    const folder = join(scratch, 'bad');
    mkdirSync(folder);
    const main = join(folder, 'main.json');
    writeFileSync(main, "{ 'include': 'sub.json' }\n");
    writeFileSync(join(folder, 'sub.json'), "\n{ 'command': 'Go' }\n");
    const result = run(main, join(folder, 'generated'));
    expect(result).toMatchObject({ status: 1, stdout: '' });
    expect(result.stderr).toBe(
      `In file included from ${main}:1:\n` +
        `${folder}/sub.json: In command 'Go':\n` +
        `${folder}/sub.json:2: the name of this command must not use upper case or '_'\n`,
    );
    expect(readdirSync(folder).sort()).toEqual(['main.json', 'sub.json']);
  });

  it('says so when there is no schema', () => {
    const result = run(join(scratch, 'none.json'), scratch);
    expect(result.status).toBe(1);
    expect(result.stderr).toBe(
      `can't read schema file '${scratch}/none.json': No such file or directory\n`,
    );
  });

  it.each([
    ['nothing', []],
    ['only a schema', ['qapi/qapi-schema.json']],
    ['an unknown option', ['qapi/qapi-schema.json', scratch, '--fast', 'x']],
    ['--docs without a file', ['qapi/qapi-schema.json', scratch, '--docs']],
    ['too much', ['qapi/qapi-schema.json', scratch, '--docs', 'a', 'b']],
  ])('explains its use when given %s', (_, args) => {
    expect(run(...args)).toMatchObject({
      status: 1,
      stdout: '',
      stderr: 'usage: main.ts SCHEMA OUTPUT-FOLDER [--docs FILE]\n',
    });
  });
});
