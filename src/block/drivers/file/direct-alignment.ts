// What direct I/O (O_DIRECT) demands of offsets, lengths and memory. The kernel has no one answer for all file systems, so
// it is asked, and where it does not know, tried out.

import { QmpError } from '../../../qapi/errors.ts';
import { logicalBlockSize, xfsDirectAlignment } from '../../../sys/block-device.ts';
import { acceptsTransfer } from '../../../sys/file.ts';
import { allocate, release } from '../../../sys/memory.ts';

/** In bytes, powers of two. */
export interface DirectAlignment {
  /** Of offsets and lengths. */
  readonly request: number;
  /** Of addresses. */
  readonly memory: number;
}

const candidates = [1, 512, 1024, 2048, 4096] as const;
const SAFE = 4096;

/** Probes a descriptor that was opened with O_DIRECT. Throws QmpError. */
export function probeDirectAlignment(fd: number): DirectAlignment {
  const buffer = allocate(2 * SAFE);
  try {
    const request = requestAlignment(fd, buffer.address);
    const memory = request === 0 ? 0 : memoryAlignment(fd, buffer.address, request);
    if (request === 0 || memory === 0) {
      throw new QmpError('Could not find working O_DIRECT alignment', {
        hint: 'Try cache.direct=off',
      });
    }
    return { request, memory };
  } finally {
    release(buffer);
  }
}

function requestAlignment(fd: number, address: number): number {
  const xfs = xfsDirectAlignment(fd);
  if (xfs > 0) return xfs;
  const block = logicalBlockSize(fd);
  if (block > 0) return block;
  const found = candidates.find((length) => acceptsTransfer(fd, address, length));
  // That any length is taken proves nothing: the file may have no data where it was read.
  return found === 1 ? SAFE : (found ?? 0);
}

function memoryAlignment(fd: number, address: number, request: number): number {
  const found = candidates.find((shift) => acceptsTransfer(fd, address + shift, SAFE));
  return found === 1 ? request : (found ?? 0);
}
