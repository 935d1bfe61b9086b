// The system's libzstd, where there is one.

import koffi from 'koffi';

/** One frame from the start of `source` into all of `into`; false when it is not that. Runs in the thread pool. */
export type ZstdDecompress = (source: Uint8Array, into: Uint8Array) => Promise<boolean>;

/** undefined where the library is not installed. */
export function loadZstd(): ZstdDecompress | undefined {
  const library = loaded();
  if (library === undefined) return undefined;
  const frameLength = library.func('size_t ZSTD_findFrameCompressedSize(void*, size_t)');
  const isError = library.func('uint ZSTD_isError(size_t)');
  const decompress = library.func('size_t ZSTD_decompress(void*, size_t, void*, size_t)');
  return (source, into) => {
    // What follows the frame is somebody else's.
    const length: unknown = frameLength(source, source.length);
    if (isError(length) !== 0) return Promise.resolve(false);
    return new Promise((resolve) => {
      decompress.async(into, into.length, source, length, (error: unknown, result: unknown) => {
        resolve(!error && result === into.length);
      });
    });
  };
}

function loaded(): ReturnType<typeof koffi.load> | undefined {
  try {
    return koffi.load('libzstd.so.1');
  } catch {
    return undefined;
  }
}
