// Compressed clusters: one deflate stream without header in some sectors of the file.

import { promisify } from 'node:util';
import { constants, inflateRaw } from 'node:zlib';
import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { COMPRESSION_ZLIB } from './header.ts';

/** Compression types of the header that can be read. */
export const knownCompressionTypes: readonly number[] = [COMPRESSION_ZLIB];

const WINDOW_BITS = 12;
const inflate = promisify(inflateRaw);

/** Decompresses exactly one cluster; what follows it in `compressed` is somebody else's. Rejects IoError. */
export async function decompress(compressed: Buffer, clusterSize: number): Promise<Buffer> {
  let content: Buffer;
  try {
    content = await inflate(compressed, {
      windowBits: WINDOW_BITS,
      // The stream may end with the cluster, without saying so.
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: clusterSize,
    });
  } catch {
    throw new IoError(errno.EIO, { syscall: 'decompress' });
  }
  if (content.length !== clusterSize) throw new IoError(errno.EIO, { syscall: 'decompress' });
  return content;
}
