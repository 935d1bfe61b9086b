// The system's libzstd, where there is one.

import koffi from 'koffi';
import { callLater } from './file.ts';

/** Both run in the thread pool. */
export interface Zstd {
  /** One frame from the start of `source` into all of `into`; false when it is not that. */
  decompress(source: Uint8Array, into: Uint8Array): Promise<boolean>;
  /** One frame; undefined when it would be no shorter. */
  compress(source: Uint8Array): Promise<Uint8Array | undefined>;
}

/** As the library has it when nobody says. */
const DEFAULT_LEVEL = 3;

/** undefined where the library is not installed. */
export function loadZstd(): Zstd | undefined {
  const library = loaded();
  if (library === undefined) return undefined;
  const frameLength = library.func('size_t ZSTD_findFrameCompressedSize(void*, size_t)');
  const isError = library.func('uint ZSTD_isError(size_t)');
  const decompress = library.func('size_t ZSTD_decompress(void*, size_t, void*, size_t)');
  const compress = library.func('size_t ZSTD_compress(void*, size_t, void*, size_t, int)');
  return {
    async decompress(source, into) {
      // What follows the frame is somebody else's.
      const length: unknown = frameLength(source, source.length);
      if (isError(length) !== 0) return false;
      const result = await callLater((done) =>
        decompress.async(into, into.length, source, length, done),
      );
      return result === into.length;
    },
    async compress(source) {
      const into = Buffer.allocUnsafeSlow(source.length - 1);
      const { length } = into;
      const result = await callLater((done) =>
        compress.async(into, length, source, source.length, DEFAULT_LEVEL, done),
      );
      return isError(result) === 0 ? into.subarray(0, result) : undefined;
    },
  };
}

function loaded(): ReturnType<typeof koffi.load> | undefined {
  try {
    return koffi.load('libzstd.so.1');
  } catch {
    return undefined;
  }
}
