// The system's libzstd, where there is one.

import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { loadZstd } from '../../../src/sys/zstd.ts';

const zstd = loadZstd();

describe.skipIf(zstd === undefined)('zstd', () => {
  it('compresses and decompresses as much at once as anybody likes', async () => {
    const content = Buffer.alloc(512, 'abc');
    const all = await Promise.all(
      Array.from({ length: 3000 }, async () => {
        const compressed = await zstd?.compress(content);
        if (compressed === undefined) return undefined;
        const into = Buffer.alloc(content.length);
        return (await zstd?.decompress(compressed, into)) === true ? into : undefined;
      }),
    );
    expect(all.every((one) => one?.equals(content))).toBe(true);
  });

  it('answers that what is no frame, or another one, cannot be decompressed', async () => {
    const compressed = await zstd?.compress(Buffer.alloc(512));
    const wrong = Buffer.from(compressed ?? []);
    wrong.fill(0xff, 8);
    expect(await zstd?.decompress(Buffer.from('no frame at all'), Buffer.alloc(512))).toBe(false);
    expect(await zstd?.decompress(compressed ?? Buffer.alloc(0), Buffer.alloc(511))).toBe(false);
    expect(await zstd?.decompress(wrong, Buffer.alloc(512))).toBe(false);
  });

  it('answers nothing for what would not become shorter', async () => {
    expect(await zstd?.compress(randomBytes(512))).toBeUndefined();
  });
});
