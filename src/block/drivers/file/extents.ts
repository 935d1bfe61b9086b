// Where an image file has data and where holes, from SEEK_DATA and SEEK_HOLE.

import { errno } from '../../../base/errno.ts';
import { seekData, seekHole } from '../../../sys/file.ts';
import { BLOCK_DATA, BLOCK_ZERO, type BlockStatusFlags } from '../../block-driver.ts';

export interface FileExtent {
  readonly status: BlockStatusFlags;
  readonly length: number;
}

/**
 * The extent that `offset` is in; `length` is how far the question goes. An answer may go further; it is a multiple of
 * `alignment` bytes. Where the file system does not tell, everything is data.
 */
export function extentAt(
  fd: number,
  offset: number,
  length: number,
  alignment: number,
): FileExtent {
  const data = seekData(fd, offset);
  // ENXIO: a hole up to the end of the file, or beyond the end.
  if (data === -errno.ENXIO) return { status: BLOCK_ZERO, length };
  if (data > offset) return { status: BLOCK_ZERO, length: data - offset };
  if (data < 0) return { status: BLOCK_DATA, length };
  const hole = seekHole(fd, offset);
  if (hole === -errno.ENXIO) return { status: BLOCK_ZERO, length };
  // Nothing learned, or somebody else just punched a hole here: data is always a safe answer.
  if (hole <= offset) return { status: BLOCK_DATA, length };
  const extent = hole - offset;
  return { status: BLOCK_DATA, length: Math.ceil(extent / alignment) * alignment };
}
