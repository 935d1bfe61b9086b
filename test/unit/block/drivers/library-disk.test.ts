// What a disk made of code may do to the block layer: nothing that its types would not let it.

import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { IoError } from '../../../../src/base/errors.ts';
import { silentLogger } from '../../../../src/base/log.ts';
import type { BlockNode } from '../../../../src/block/block-node.ts';
import { libraryDisk } from '../../../../src/block/drivers/library-disk.ts';
import { allocate } from '../../../../src/sys/memory.ts';

const node = {} as BlockNode;
const buffer = allocate(4096);

/** The driver of a disk with these functions, as a program without types may write them. */
function driverOf(functions: Readonly<Record<string, unknown>>) {
  return libraryDisk({ size: 4096, read() {}, ...functions }, silentLogger);
}

function read(functions: Readonly<Record<string, unknown>>): unknown {
  return driverOf(functions).read(node, 0, 512, buffer, 0, 0);
}

describe('libraryDisk', () => {
  it('takes what a function returns for nothing', async () => {
    expect(read({ read: (into: Uint8Array) => into.fill(7).length })).toBeUndefined();
    expect(buffer.bytes[511]).toBe(7);
    expect(await read({ read: async () => 512 })).toBeUndefined();
    const driver = driverOf({ flush: () => 'flushed', close: async () => true });
    expect(driver.flush?.(node)).toBeUndefined();
    expect(await driver.close?.(node)).toBeUndefined();
  });

  it('waits for promises of every kind', async () => {
    const deferred = runInNewContext(
      'let fulfil; const promise = new Promise((resolve) => (fulfil = resolve)); ({ promise, fulfil })',
    ) as { readonly promise: unknown; readonly fulfil: () => void };
    expect(deferred.promise).not.toBeInstanceOf(Promise);
    let isRead = false;
    const reading = read({ read: () => deferred.promise });
    expect(reading).toBeInstanceOf(Promise);
    void (reading as Promise<void>).then(() => (isRead = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isRead).toBe(false);
    deferred.fulfil();
    expect(await reading).toBeUndefined();
    const failing = runInNewContext('Promise.reject(Object.assign(new Error(), {code: "ENOSPC"}))');
    await expect(read({ read: () => failing })).rejects.toMatchObject({ errno: errno.ENOSPC });
  });

  it.each([
    ['nothing', undefined, errno.EIO],
    ['null', null, errno.EIO],
    ['a text', 'ENOSPC', errno.EIO],
    ['an object without a text', Object.create(null), errno.EIO],
    ['a code of no errno', { code: 'ERR_SOMETHING' }, errno.EIO],
    ['a code that every object has', { code: 'toString' }, errno.EIO],
    ['an errno', { code: 'ENOSPC' }, errno.ENOSPC],
  ])('makes an IoError of what it throws: %s', async (_what, thrown, code) => {
    const now = {
      read() {
        throw thrown;
      },
    };
    expect(() => read(now)).toThrow(IoError);
    expect(() => read(now)).toThrow(expect.objectContaining({ errno: code }));
    const later = { read: () => Promise.reject(thrown) };
    await expect(read(later)).rejects.toMatchObject({ errno: code });
  });

  it.each([undefined, null, {}, { length: 0 }, { length: -1 }, { length: 'x' }, 5])(
    'takes %j for no status',
    async (status) => {
      const ask = (answer: unknown): unknown =>
        driverOf({ status: () => answer }).blockStatus?.(node, 0, 4096, true);
      expect(() => ask(status)).toThrow(expect.objectContaining({ errno: errno.EIO }));
      await expect(ask(Promise.resolve(status))).rejects.toMatchObject({ errno: errno.EIO });
    },
  );
});
