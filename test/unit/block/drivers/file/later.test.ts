// What goes beside the main thread: by the kernel's ring, by the thread pool, and by both where the ring does a part of it.

import { readFileSync, truncateSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { errno } from '../../../../../src/base/errno.ts';
import type { RequestRing, RingSource } from '../../../../../src/base/request-ring.ts';
import { OTHERS_WAIT, PERM_ALL, PERM_WRITE } from '../../../../../src/block/block-driver.ts';
import type { BlockNode, NodeSettings } from '../../../../../src/block/block-node.ts';
import { file } from '../../../../../src/block/drivers/file/file.ts';
import type { ImageFile } from '../../../../../src/block/drivers/file/image-file.ts';
import type { BlockdevAioOptions } from '../../../../../src/qapi/generated/types.ts';
import { SharedRing } from '../../../../../src/sys/io-uring.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { Poller } from '../../../../../src/sys/poller.ts';
import { noRings } from '../../../../helpers/io-uring.ts';
import { openNode } from '../open-node.ts';
import { imageOf, KiB, MiB, pattern } from './image.ts';

/** Longer than what is done on the main thread. */
const LONG = 2 * MiB;
const CONTENT = pattern(LONG);
const shared = new SharedRing(new Poller());
afterAll(() => shared.close());

/** A ring that answers as told, one answer after the other, and then as the last one; it does nothing. */
function scripted(...results: number[]): RequestRing & { readonly asked: string[] } {
  const asked: string[] = [];
  const answer = (what: string, done: (result: number) => void): void => {
    asked.push(what);
    const result = (results.length > 1 ? results.shift() : results[0]) ?? 0;
    setImmediate(() => done(result));
  };
  return {
    asked,
    read: (_transfer, done) => answer('read', done),
    write: (_transfer, done) => answer('write', done),
    fdatasync: (_fd, done) => answer('fdatasync', done),
  };
}

interface Way {
  readonly by: string;
  readonly aio?: BlockdevAioOptions;
  readonly direct?: boolean;
  readonly ring?: RingSource;
  readonly missing?: string | undefined;
}

const ways: Way[] = [
  { by: 'the thread pool', aio: 'threads' },
  { by: 'the thread pool, past the cache', aio: 'threads', direct: true },
  { by: 'the thread pool, where there is no ring' },
  { by: 'the ring', aio: 'io_uring', ring: shared.get, missing: noRings },
  {
    by: 'the ring, past the cache',
    aio: 'io_uring',
    direct: true,
    ring: shared.get,
    missing: noRings,
  },
  { by: 'native requests', aio: 'native', direct: true, ring: shared.get, missing: noRings },
  { by: 'what is best', ring: shared.get, missing: noRings },
  { by: 'what is best past the cache', direct: true, ring: shared.get, missing: noRings },
  {
    by: 'a ring that wants all of it repeated',
    aio: 'io_uring',
    ring: () => scripted(-errno.EAGAIN),
  },
  { by: 'a ring that cancels', aio: 'io_uring', ring: () => scripted(-errno.ECANCELED) },
  { by: 'a ring that is interrupted', aio: 'io_uring', ring: () => scripted(-errno.EINTR) },
];

async function opened(
  filename: string,
  { aio, direct = false, ring }: Way,
  settings: Partial<NodeSettings> = {},
) {
  return openNode(
    file,
    { filename, ...(aio === undefined ? {} : { aio }) },
    { settings: { cacheDirect: direct, ...settings }, ...(ring === undefined ? {} : { ring }) },
  );
}

function write(node: BlockNode<ImageFile>, offset: number, bytes: Buffer) {
  const from = allocate(bytes.length);
  bytes.copy(from.bytes);
  return file.write?.(node, offset, bytes.length, from, 0, OTHERS_WAIT);
}

async function read(node: BlockNode<ImageFile>, offset: number, length: number): Promise<Buffer> {
  const into = allocate(length);
  into.bytes.fill(0xaa);
  await file.read(node, offset, length, into, 0, 0);
  return into.bytes;
}

for (const way of ways) {
  const { by, missing } = way;
  describe.skipIf(missing !== undefined)(
    `file: later, by ${by}${missing ? ` (left out: ${missing})` : ''}`,
    () => {
      it('keeps what is written and reads it back', async () => {
        const filename = imageOf(LONG);
        const node = await opened(filename, way);
        const later = write(node, 64 * KiB, CONTENT);
        expect(later).toBeInstanceOf(Promise);
        await later;
        expect((await read(node, 64 * KiB, LONG)).equals(CONTENT)).toBe(true);
        await file.flush?.(node);
        expect(
          readFileSync(filename)
            .subarray(64 * KiB)
            .equals(CONTENT),
        ).toBe(true);
      });

      it('keeps many writes that are under way at once', async () => {
        const filename = imageOf(0);
        const node = await opened(filename, way);
        const bytes = Buffer.concat([CONTENT, CONTENT]);
        const piece = 128 * KiB;
        const writes: unknown[] = [];
        for (let at = 0; at < bytes.length; at += piece) {
          writes.push(write(node, at, bytes.subarray(at, at + piece)));
        }
        await Promise.all(writes);
        expect(readFileSync(filename).equals(bytes)).toBe(true);
      });

      it('reads zeroes behind the end of a file that has become shorter', async () => {
        const filename = imageOf(Buffer.alloc(LONG, 7));
        const node = await opened(filename, way);
        truncateSync(filename, 4096);
        const bytes = await read(node, 0, LONG);
        expect(bytes.subarray(0, 4096).equals(Buffer.alloc(4096, 7))).toBe(true);
        expect(bytes.subarray(4096).equals(Buffer.alloc(LONG - 4096))).toBe(true);
      });

      it('tells the error of a write that cannot be', async () => {
        const filename = imageOf(CONTENT);
        const node = await opened(filename, way, { readOnly: true });
        const failed = Promise.resolve(write(node, 0, Buffer.alloc(LONG)));
        await expect(failed).rejects.toMatchObject({ errno: errno.EBADF });
        expect((await read(node, 0, LONG)).equals(CONTENT)).toBe(true);
      });

      it('ends what is under way with the descriptor that it began with', async () => {
        const filename = imageOf(LONG);
        const node = await opened(filename, way, { autoReadOnly: true });
        const before = node.state.fd;
        const bytes = read(node, 0, LONG);
        file.checkPermissions?.(node, PERM_WRITE, PERM_ALL);
        file.setPermissions?.(node, PERM_WRITE, PERM_ALL);
        expect(node.state.fd).not.toBe(before);
        expect((await bytes).equals(Buffer.alloc(LONG))).toBe(true);
        await write(node, 0, CONTENT);
        expect(readFileSync(filename).equals(CONTENT)).toBe(true);
      });
    },
  );
}

describe('file: a ring', () => {
  it('is left the rest of by the thread pool, as far as it came', async () => {
    const filename = imageOf(CONTENT);
    const node = await opened(filename, { by: '', aio: 'io_uring', ring: () => scripted(MiB) });
    const bytes = await read(node, 0, LONG);
    // This ring has read nothing of what it says.
    expect(bytes.subarray(0, MiB).equals(Buffer.alloc(MiB, 0xaa))).toBe(true);
    expect(bytes.subarray(MiB).equals(CONTENT.subarray(MiB))).toBe(true);
    await write(node, 0, Buffer.alloc(LONG, 5));
    expect(readFileSync(filename).subarray(0, MiB).equals(CONTENT.subarray(0, MiB))).toBe(true);
    expect(readFileSync(filename).subarray(MiB).equals(Buffer.alloc(MiB, 5))).toBe(true);
  });

  it('tells its errors, and no flush succeeds after one that failed', async () => {
    const ring = scripted(-errno.EIO, -errno.ENOSPC, -errno.EIO, 0);
    const node = await opened(imageOf(LONG), { by: '', aio: 'io_uring', ring: () => ring });
    await expect(read(node, 0, LONG)).rejects.toMatchObject({ errno: errno.EIO });
    const failed = Promise.resolve(write(node, 0, CONTENT));
    await expect(failed).rejects.toMatchObject({ errno: errno.ENOSPC });
    const flush = (): Promise<void> => Promise.resolve(file.flush?.(node));
    await expect(flush()).rejects.toMatchObject({ errno: errno.EIO });
    await expect(flush()).rejects.toMatchObject({ errno: errno.EIO });
    expect(ring.asked).toEqual(['read', 'write', 'fdatasync']);
  });

  it.each([
    { aio: 'threads', direct: true, asked: [] },
    { aio: 'native', direct: true, asked: ['read'] },
    { aio: undefined, direct: true, asked: ['read'] },
    { aio: undefined, direct: false, asked: ['write'] },
    { aio: 'io_uring', direct: false, asked: ['write', 'read', 'fdatasync'] },
    { aio: 'io_uring', direct: true, asked: ['write', 'read', 'fdatasync'] },
  ] as const)(
    'is asked for $asked with aio=$aio, direct: $direct',
    async ({ aio, direct, asked }) => {
      const ring = scripted(-errno.EAGAIN);
      const way = { by: '', direct, ring: () => ring, ...(aio === undefined ? {} : { aio }) };
      const node = await opened(imageOf(LONG), way);
      await write(node, 0, CONTENT);
      await read(node, 0, LONG);
      await file.flush?.(node);
      expect(ring.asked).toEqual(asked);
    },
  );

  it('is not asked for before there is something for it', async () => {
    let times = 0;
    const ring = (): RequestRing => {
      times++;
      return scripted(-errno.EAGAIN);
    };
    const node = await opened(imageOf(LONG), { by: '', ring });
    await read(node, 0, 4096);
    expect(times).toBe(0);
    await write(node, 0, CONTENT);
    await write(node, 0, CONTENT);
    expect(times).toBe(1);
  });
});
