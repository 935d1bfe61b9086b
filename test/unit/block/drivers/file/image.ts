// Images for tests of the driver `file`, and what there is to see of them.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import { file } from '../../../../../src/block/drivers/file/file.ts';
import type { ImageFile } from '../../../../../src/block/drivers/file/image-file.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { scratch } from '../open-node.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;

export function imageOf(bytes: Buffer | number, directory = scratch()): string {
  const path = join(directory, 'disk.img');
  writeFileSync(path, typeof bytes === 'number' ? Buffer.alloc(bytes) : bytes);
  return path;
}

export function pattern(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let n = 0; n < length; n++) bytes[n] = n * 7 + (n >> 8);
  return bytes;
}

export async function writeBytes(
  node: BlockNode<ImageFile>,
  offset: number,
  bytes: Buffer,
  at = 0,
): Promise<void> {
  const from = allocate(at + bytes.length);
  bytes.copy(from.bytes, at);
  await file.write?.(node, offset, bytes.length, from, at, 0);
}
