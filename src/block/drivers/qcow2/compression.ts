// Compressed clusters: one deflate stream without header, or one zstd frame, in some sectors of the file.

import { promisify } from 'node:util';
import { constants, deflateRaw, inflateRaw } from 'node:zlib';
import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { loadZstd } from '../../../sys/zstd.ts';
import { COMPRESSION_ZLIB, COMPRESSION_ZSTD } from './header.ts';

/**
 * Decompresses exactly one cluster; what follows it in `compressed` is somebody else's. Answers undefined when it is none.
 */
export type Decompress = (compressed: Buffer, clusterSize: number) => Promise<Buffer | undefined>;

/** Compresses one cluster. Answers undefined when that makes it no shorter. */
export type Compress = (cluster: Uint8Array) => Promise<Uint8Array | undefined>;

export interface Codec {
  readonly compress: Compress;
  readonly decompress: Decompress;
}

const WINDOW_BITS = 12;
const MEMORY_LEVEL = 9;
const inflate = promisify(inflateRaw);
const deflate = promisify(deflateRaw);

/** What a compression type of the header means; undefined when nobody here knows. */
export function codecOf(type: number): Codec | undefined {
  if (type === COMPRESSION_ZLIB) return { compress: deflateCluster, decompress: inflateCluster };
  const zstd = type === COMPRESSION_ZSTD ? loadZstd() : undefined;
  if (zstd === undefined) return undefined;
  return {
    compress: (cluster) => zstd.compress(cluster),
    async decompress(compressed, clusterSize) {
      const content = Buffer.allocUnsafeSlow(clusterSize);
      return (await zstd.decompress(compressed, content)) ? content : undefined;
    },
  };
}

async function deflateCluster(cluster: Uint8Array): Promise<Buffer | undefined> {
  const options = { windowBits: WINDOW_BITS, memLevel: MEMORY_LEVEL };
  const compressed = await deflate(cluster, options);
  return compressed.length < cluster.length ? compressed : undefined;
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
