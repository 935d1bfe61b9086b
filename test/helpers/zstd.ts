// The system's libzstd for tests that cannot wait: one frame from the start of some bytes.

import koffi from 'koffi';

/** Answers undefined where there is no frame of that length. */
export type ZstdFrame = (source: Buffer, length: number) => Buffer | undefined;

/** undefined where the library is not installed. */
export function loadZstdFrame(): ZstdFrame | undefined {
  const library = loaded();
  if (library === undefined) return undefined;
  const frameLength = library.func('size_t ZSTD_findFrameCompressedSize(void*, size_t)');
  const isError = library.func('uint ZSTD_isError(size_t)');
  const decompress = library.func('size_t ZSTD_decompress(void*, size_t, void*, size_t)');
  return (source, length) => {
    // What follows the frame is somebody else's.
    const own: unknown = frameLength(source, source.length);
    if (isError(own) !== 0) return undefined;
    const content = Buffer.alloc(length);
    return decompress(content, length, source, own) === length ? content : undefined;
  };
}

function loaded(): ReturnType<typeof koffi.load> | undefined {
  try {
    return koffi.load('libzstd.so.1');
  } catch {
    return undefined;
  }
}
