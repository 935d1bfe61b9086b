import { renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Logger } from '../../../src/base/log.ts';
import { isAuthorized } from '../../../src/object/authz.ts';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { tempDir } from '../../helpers/temp-dir.ts';

const allowing = (name: string): string =>
  JSON.stringify({ policy: 'deny', rules: [{ match: name, policy: 'allow' }] });

async function made(content: string, more: object = {}) {
  const filename = path.join(tempDir(), 'list');
  writeFileSync(filename, content);
  const logged: string[] = [];
  const log: Logger = { error: (text) => logged.push(text), warn() {}, debug() {} };
  const objects = new ObjectRegistry({ log });
  onTestFinished(() => objects.close());
  await objects.add({ 'qom-type': 'authz-list-file', id: 'f', filename, ...more });
  return { filename, logged, allows: (name: string) => isAuthorized('f', name, objects) };
}

describe('authz-list-file', () => {
  it('lets in whom its file says', async () => {
    const { allows } = await made(allowing('CN=a'));
    expect([allows('CN=a'), allows('CN=b')]).toEqual([true, false]);
  });

  it.each([
    ['', 'JSON parse error'],
    ['junk', "JSON parse error, invalid keyword 'junk'"],
    ['[]', 'must contain a JSON object'],
    ['1.5', 'must contain a JSON object'],
    ['{"policy":"maybe"}', "Parameter 'policy' does not accept value 'maybe'"],
    ['{"rules":[{"match":"x"}]}', "Parameter 'rules[0].policy' is missing"],
    ['{"rulez":[]}', "Parameter 'rulez' is unexpected"],
  ])('refuses a file with %j', async (content, text) => {
    await expect(made(content)).rejects.toThrow(content === '' ? /JSON value|JSON parse/ : text);
  });

  it('says which file it cannot read', async () => {
    const options = { 'qom-type': 'authz-list-file', id: 'f', filename: 'nope' } as const;
    await expect(new ObjectRegistry().add(options)).rejects.toThrow(
      "Unable to read 'nope': Failed to open file “nope”: No such file or directory",
    );
  });

  it('takes up changes, in place and by another file', async () => {
    const { filename, allows } = await made(allowing('CN=a'));
    writeFileSync(filename, allowing('CN=b'));
    await expect.poll(() => allows('CN=b')).toBe(true);
    expect(allows('CN=a')).toBe(false);
    writeFileSync(`${filename}.new`, allowing('CN=c'));
    renameSync(`${filename}.new`, filename);
    await expect.poll(() => allows('CN=c')).toBe(true);
  });

  it('lets nobody in while the file holds no list', async () => {
    const { filename, allows, logged } = await made(allowing('CN=a'));
    writeFileSync(filename, '{"policy":');
    await expect.poll(() => logged).not.toHaveLength(0);
    expect(allows('CN=a')).toBe(false);
    rmSync(filename);
    writeFileSync(filename, allowing('CN=a'));
    await expect.poll(() => allows('CN=a')).toBe(true);
  });

  it('leaves the file alone with refresh off', async () => {
    const { filename, allows } = await made(allowing('CN=a'), { refresh: false });
    writeFileSync(filename, allowing('CN=b'));
    const other = await made(allowing('CN=x'));
    writeFileSync(other.filename, allowing('CN=y'));
    await expect.poll(() => other.allows('CN=y')).toBe(true);
    expect(allows('CN=a')).toBe(true);
  });
});
