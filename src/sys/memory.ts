// Pinned, page-aligned memory for the data path, straight from the kernel: pages that nobody touches cost nothing, and the
// address never changes, so system calls (direct I/O too) may be given `address + at`.

import { IoError } from '../base/errors.ts';
import type { IoBuffer } from '../base/io-buffer.ts';
import { addressOf, errnoNow, libc, viewOf } from './libc.ts';

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_DONTNEED = 4;
const PAGE = 4096;

// Keyed by the ArrayBuffer: every Buffer and DataView over the memory keeps it alive, so nothing can outlive the mapping.
const mappings = new FinalizationRegistry<{ address: number; length: number }>((mapping) => {
  libc.munmap(mapping.address, mapping.length);
});

/** Zeroed memory of `length` bytes, at least one page. Unmapped once neither it nor a view of it is referenced. */
export function allocate(length: number): IoBuffer {
  const mapped = Math.max(PAGE, Math.ceil(length / PAGE) * PAGE);
  const address = libc.mmap(0, mapped, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (address === -1) throw new IoError(errnoNow(), { syscall: 'mmap' });
  const memory = viewOf(address, length);
  mappings.register(memory, { address, length: mapped });
  return { bytes: Buffer.from(memory), view: new DataView(memory), address };
}

/** Gives the pages back to the kernel at once. The buffer stays usable and reads as zeroes. Only for memory of allocate(). */
export function release(buffer: IoBuffer): void {
  libc.madvise(buffer.address, Math.ceil(buffer.bytes.length / PAGE) * PAGE, MADV_DONTNEED);
}

/** An IoBuffer over bytes that exist already; not page-aligned. */
export function ioBufferOver(bytes: Buffer): IoBuffer {
  return {
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    address: bytes.length === 0 ? 0 : addressOf(bytes),
  };
}

/** Bytes of the system's memory pages. */
export function pageSize(): number {
  return libc.getpagesize();
}
