// Names `json:{...}`. What the reference makes of such names is in the conformance area json-names; values as strings are here.

import { describe, expect, it } from 'vitest';
import { blockDrivers } from '../../../src/block/drivers/index.ts';
import { isJsonFilename, jsonFilenameOptions } from '../../../src/block/json-filename.ts';
import type { BlockdevOptions } from '../../../src/qapi/generated/types.ts';

const context = {
  driver: (name: BlockdevOptions['driver']) => blockDrivers[name],
  format: () => 'qcow2' as const,
};

function options(
  value: unknown,
  place: { driver?: string; level?: 'image' | 'file' } = {},
): Promise<BlockdevOptions> {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return jsonFilenameOptions(`json:${text}`, { level: 'image', ...place }, context);
}

describe('jsonFilenameOptions', () => {
  it('takes strings for numbers, sizes and truth values', async () => {
    expect(await options({ driver: 'null-co', size: '1.5M', 'read-zeroes': 'on' })).toEqual({
      driver: 'null-co',
      size: 1.5 * 2 ** 20,
      'read-zeroes': true,
    });
    const blkdebug = { driver: 'blkdebug', image: 'n' };
    const rules = { 'inject-error': [{ event: 'read_aio', errno: '5', once: 'off' }] };
    expect(await options({ ...blkdebug, ...rules })).toEqual({
      ...blkdebug,
      'inject-error': [{ event: 'read_aio', errno: 5, once: false }],
    });
  });

  it('takes flat and nested members together', async () => {
    const flat = { driver: 'raw', 'file.driver': 'qcow2', 'file.cache.direct': true };
    expect(await options({ ...flat, file: { 'file.filename': 'x', backing: null } })).toEqual({
      driver: 'raw',
      file: {
        driver: 'qcow2',
        cache: { direct: true },
        backing: null,
        file: { driver: 'file', filename: 'x' },
      },
    });
    const lists = { 'children.0': 'a', 'children.1.driver': 'null-co', 'vote-threshold': 1 };
    expect(await options({ driver: 'quorum', ...lists })).toEqual({
      driver: 'quorum',
      children: ['a', { driver: 'null-co' }],
      'vote-threshold': 1,
    });
  });

  it('looks for the format of an image only', async () => {
    expect(await options({ file: { filename: 'x' } })).toMatchObject({ driver: 'qcow2' });
    await expect(options({ file: { filename: 'x' } }, { level: 'file' })).rejects.toThrow(
      'Must specify either driver or file',
    );
    expect(await options({ filename: 'x' }, { level: 'file' })).toMatchObject({ driver: 'file' });
  });

  it('has a driver from elsewhere come first', async () => {
    const given = await options({ driver: 'qcow2', file: 'n' }, { driver: 'raw' });
    expect(given).toEqual({ driver: 'raw', file: 'n' });
  });

  it('knows how old images say where an NBD server is', async () => {
    expect(await options({ driver: 'nbd', host: 'h' })).toEqual({
      driver: 'nbd',
      server: { type: 'inet', host: 'h', port: '10809' },
    });
  });

  it('has no prototype for members to reach', async () => {
    for (const name of ['__proto__', 'constructor', 'toString']) {
      await expect(options(`{"driver":"null-co","${name}.x":1}`)).rejects.toThrow(
        `Block protocol 'null-co' doesn't support the option '${name}.x'`,
      );
      await expect(options({ driver: name })).rejects.toThrow(/Unknown driver|Must specify/);
    }
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it('refuses deep names, and names for two things at once', async () => {
    const deep = `${'{"driver":"raw","file":'.repeat(100)}"n"${'}'.repeat(100)}`;
    await expect(options(deep)).resolves.toMatchObject({ driver: 'raw' });
    await expect(options('['.repeat(2000))).rejects.toThrow('Could not parse the JSON options');
    await expect(options({ driver: 'raw', file: 'n', 'file.driver': 'raw' })).rejects.toThrow(
      'Cannot reference an existing block device with additional options or a new filename',
    );
  });
});

describe('isJsonFilename', () => {
  it('is true for the prefix alone', () => {
    expect(['json:', 'json:{}', 'JSON:{}', 'a/json:', '/json:'].map(isJsonFilename)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});
