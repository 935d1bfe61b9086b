// Compressed clusters: one deflate stream without header, or one zstd frame, in some sectors of the file.

import { promisify } from 'node:util';
import { constants, inflateRaw } from 'node:zlib';
import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { loadZstd } from '../../../sys/zstd.ts';
import { COMPRESSION_ZLIB, COMPRESSION_ZSTD } from './header.ts';

/**
 * Decompresses exactly one cluster; what follows it in `compressed` is somebody else's. Answers undefined when it is none.
 */
export type Decompress = (compressed: Buffer, clusterSize: number) => Promise<Buffer | undefined>;

const WINDOW_BITS = 12;
const inflate = promisify(inflateRaw);

/** How a compression type of the header is undone; undefined when nobody here knows. */
export function decompressor(type: number): Decompress | undefined {
  if (type === COMPRESSION_ZLIB) return inflateCluster;
  const zstd = type === COMPRESSION_ZSTD ? loadZstd() : undefined;
  if (zstd === undefined) return undefined;
  return async (compressed, clusterSize) => {
    const content = Buffer.allocUnsafeSlow(clusterSize);
    return (await zstd(compressed, content)) ? content : undefined;
  };
}

/** Throws IoError unless there is a cluster. */
export function checkDecompressed(content: Buffer | undefined): Buffer {
  if (content === undefined) throw new IoError(errno.EIO, { syscall: 'decompress' });
  return content;
}

async function inflateCluster(
  compressed: Buffer,
  clusterSize: number,
): Promise<Buffer | undefined> {
  try {
    const content = await inflate(compressed, {
      windowBits: WINDOW_BITS,
      // The stream may end with the cluster, without saying so.
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: clusterSize,
    });
    return content.length === clusterSize ? content : undefined;
  } catch {
    return undefined;
  }
}
