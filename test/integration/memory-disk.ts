// The example of the README: a disk in memory.

import type { Disk } from '../../src/index.ts';

export function memoryDisk(bytes: Uint8Array): Disk {
  return {
    size: bytes.length,
    read(into, offset) {
      into.set(bytes.subarray(offset, offset + into.length));
    },
    write(from, offset) {
      bytes.set(from, offset);
    },
    writeZeroes(offset, length) {
      bytes.fill(0, offset, offset + length);
    },
  };
}
